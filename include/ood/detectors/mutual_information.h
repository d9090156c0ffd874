#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Mutual information of class and copy, negated: what K copies disagree about.
///
///   s(f) = -(H(m) - 1/K sum_k H(p^k)) = -1/K sum_k KL(p^k, m)
///                                                             higher = more in-distribution
///   p^k = softmax(f^k),   m = 1/K sum_k p^k,   H: entropy
///
/// Computed as 1/K sum_k sum_c m_c g(p^k_c / m_c - 1) with g(x) = (1 + x) log(1 + x) - x: no term is
/// below 0, and nothing of the size of an entropy cancels.
///
/// needs  copies/logits [K, m, C] in score, K >= 1
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; unit: nats, in [-log min(K, C), 0]
/// cost   score O(K m C)
/// errors std::invalid_argument: no copies. K = 1 scores 0
/// source Houlsby et al., 2011, arXiv:1112.5745 (BALD); Depeweg et al., ICML 2018, arXiv:1710.07283
///        (the epistemic part of the predictive entropy). torch-uncertainty clamps the difference of
///        the entropies at 0. float64; keeps its relative accuracy where p -> 1.
class MutualInformation final : public Detector {
 public:
  static constexpr std::string_view kName = "mutual_information";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.copy_logits = true}}; }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<MutualInformation>(*this);
  }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_logits, "copies/logits", 1);
    score_probabilities(*tile.copy_logits, ProbabilityStatistic::negative_mutual_information, out);
  }
};

}  // namespace ood
