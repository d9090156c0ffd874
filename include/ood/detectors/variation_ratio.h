#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Share of K copies that do not predict what most of them predict, negated.
///
///   s(f) = max_c #{k: c = argmax f^k} / K - 1                 higher = more in-distribution
///
/// needs  copies/logits [K, m, C] in score, K >= 1
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; one of 1/K - 1, 2/K - 1, ..., 0
/// cost   score O(K m (C + K))
/// errors std::invalid_argument: no copies
/// source Freeman's variation ratio (Elementary Applied Statistics, 1965), for copies as in Gal,
///        Uncertainty in Deep Learning, 2016. A copy whose largest logits tie predicts the first of
///        them. K values at most: most rows of a set tie, and metrics count ties as half.
class VariationRatio final : public Detector {
 public:
  static constexpr std::string_view kName = "variation_ratio";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.copy_logits = true}}; }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<VariationRatio>(*this);
  }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_logits, "copies/logits", 1);
    variation_ratio(*tile.copy_logits, out);
  }
};

}  // namespace ood
