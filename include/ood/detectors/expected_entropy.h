#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Mean entropy of the probabilities of K copies, negated: the uncertainty that each has.
///
///   s(f) = 1/K sum_k sum_c p^k_c log p^k_c,   p^k = softmax(f^k)
///                                                             higher = more in-distribution
///
/// needs  copies/logits [K, m, C] in score, K >= 1
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; unit: nats, in [-log C, 0]
/// cost   score O(K m C)
/// errors std::invalid_argument: no copies
/// source Depeweg et al., ICML 2018, arXiv:1710.07283 (the aleatoric part of the predictive
///        entropy). torch-uncertainty calls it `entropy`.
class ExpectedEntropy final : public Detector {
 public:
  static constexpr std::string_view kName = "expected_entropy";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.copy_logits = true}}; }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<ExpectedEntropy>(*this);
  }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_logits, "copies/logits", 1);
    mean_negative_entropy(*tile.copy_logits, out);
  }
};

}  // namespace ood
