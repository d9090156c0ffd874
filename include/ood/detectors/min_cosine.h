#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Smallest cosine of the features with those of K copies, less 1.
///
///   s(z) = min_k cos(z, z^k) - 1                              higher = more in-distribution
///
/// A row of zeros has cosine 0 with every row.
///
/// needs  features [m, D], copies/features [K, m, D] in score, K >= 1
/// fit    nothing
/// score  features [m, D], copies/features [K, m, D] -> out [m]; in [-2, 0]
/// cost   score O(K m D)
/// errors std::invalid_argument: no copies, or copies of another width
/// source The smallest similarity of an image and its perturbed versions, where wepe takes the mean;
///        with K = 1 the score of one perturbed copy. Less 1, so that float32 keeps cosines near 1
///        apart: 1 - cos is half the squared distance of unit vectors in float64.
class MinCosine final : public Detector {
 public:
  static constexpr std::string_view kName = "min_cosine";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {}, .score = {.features = true, .copy_features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<MinCosine>(*this); }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_features, "copies/features", 1);
    score_cosines(*tile.features, *tile.copy_features, CosineStatistic::smallest, out);
  }
};

}  // namespace ood
