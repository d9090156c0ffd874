#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "ood/copies.h"
#include "ood/detector.h"
#include "ood/scratch.h"

namespace ood {

/// Share of K copies that do not predict what most of them predict, negated.
///
///   s(f) = max_c #{k: c = argmax f^k} / K - 1                 higher = more in-distribution
///
/// needs  copies/logits [K, m, C] in score, K >= 1
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; one of 1/K - 1, 2/K - 1, ..., 0
/// cost   score O(K m (C + log K))
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
    const Tensor3View& logits = *tile.copy_logits;
    require_copies(logits, "copies/logits", 1);
    Scratch scratch;
    std::pmr::vector<Index> predicted(logits.shape()[0], &scratch);
    for (std::size_t i = 0; i < out.size(); ++i) {
      bool finite = true;
      for (std::size_t k = 0; k < predicted.size(); ++k) {
        const auto f = copy_rows(logits, static_cast<Index>(k)).row(static_cast<Index>(i));
        finite = finite && f.allFinite();
        f.maxCoeff(&predicted[k]);
      }
      out[i] = finite ? largest_share(predicted) - 1 : std::numeric_limits<float>::quiet_NaN();
    }
  }

  /// Of the value that occurs most often; sorts the values.
  static float largest_share(std::span<Index> values) {
    std::ranges::sort(values);
    Index run = 0, longest = 0;
    for (std::size_t k = 0; k < values.size(); ++k) {
      run = k > 0 && values[k] == values[k - 1] ? run + 1 : 1;
      longest = std::max(longest, run);
    }
    return static_cast<float>(longest) / static_cast<float>(values.size());
  }
};

}  // namespace ood
