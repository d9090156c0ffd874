#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Variance of the probabilities of K copies, negated.
///
///   s(f) = -1/C sum_c 1/(K - 1) sum_k (p^k_c - m_c)^2         higher = more in-distribution
///   p^k = softmax(f^k),   m = 1/K sum_k p^k
///
/// needs  copies/logits [K, m, C] in score, K >= 2
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; <= 0
/// cost   score O(K m C)
/// errors std::domain_error: K < 2
/// source The variance of Monte Carlo dropout (Gal & Ghahramani, ICML 2016, arXiv:1506.02142) as
///        pytorch-ood averages it over the classes. float64, by differences from m.
class CopyVariance final : public Detector {
 public:
  static constexpr std::string_view kName = "copy_variance";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.copy_logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<CopyVariance>(*this); }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_logits, "copies/logits", 2);
    score_probabilities(*tile.copy_logits, ProbabilityStatistic::negative_variance, out);
  }
};

}  // namespace ood
