#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Entropy of the mean probabilities of K copies, negated: their total uncertainty.
///
///   s(f) = sum_c m_c log m_c,   m = 1/K sum_k softmax(f^k)    higher = more in-distribution
///
/// It is the sum of expected_entropy, the uncertainty that each copy has, and mutual_information,
/// what they disagree about.
///
/// needs  copies/logits [K, m, C] in score, K >= 1
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; unit: nats, in [-log C, 0]
/// cost   score O(K m C)
/// errors std::invalid_argument: no copies
/// source Gal & Ghahramani, ICML 2016, arXiv:1506.02142 (dropout); Lakshminarayanan et al., NeurIPS
///        2017, arXiv:1612.01474 (ensembles). float64; keeps its relative accuracy where m -> 1.
///        torch-uncertainty calls the expected entropy `entropy`.
class PredictiveEntropy final : public Detector {
 public:
  static constexpr std::string_view kName = "predictive_entropy";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.copy_logits = true}}; }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<PredictiveEntropy>(*this);
  }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_logits, "copies/logits", 1);
    score_probabilities(*tile.copy_logits, ProbabilityStatistic::negative_entropy_of_mean, out);
  }
};

}  // namespace ood
