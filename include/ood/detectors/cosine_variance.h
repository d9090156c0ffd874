#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Variance of the cosines of the features with those of K copies, negated.
///
///   s(z) = -1/(K - 1) sum_k (c_k - 1/K sum_j c_j)^2,   c_k = cos(z, z^k)
///                                                             higher = more in-distribution
///
/// A row of zeros has cosine 0 with every row.
///
/// needs  features [m, D], copies/features [K, m, D] in score, K >= 2
/// fit    nothing
/// score  features [m, D], copies/features [K, m, D] -> out [m]; in [-2, 0]
/// cost   score O(K m D)
/// errors std::domain_error: K < 2; std::invalid_argument: copies of another width
/// source A companion of wepe, which takes the mean of the cosines. No publication defines it as a
///        score. The variance of 1 - cos, half the squared distance of unit vectors in float64.
class CosineVariance final : public Detector {
 public:
  static constexpr std::string_view kName = "cosine_variance";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {}, .score = {.features = true, .copy_features = true}};
  }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<CosineVariance>(*this);
  }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_features, "copies/features", 2);
    score_cosines(*tile.features, *tile.copy_features, CosineStatistic::negative_variance, out);
  }
};

}  // namespace ood
