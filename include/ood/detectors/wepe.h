#pragma once

#include "ood/copies.h"
#include "ood/detector.h"

namespace ood {

/// Mean cosine of the features with those of K perturbed copies, less 1.
///
///   s(z) = 1/K sum_k cos(z, z^k) - 1                          higher = more in-distribution
///
/// A row of zeros has cosine 0 with every row.
///
/// needs  features [m, D], copies/features [K, m, D] in score, K >= 1
/// fit    nothing
/// score  features [m, D], copies/features [K, m, D] -> out [m]; in [-2, 0]
/// cost   score O(K m D)
/// errors std::invalid_argument: no copies, or copies of another width
/// source WePe: arXiv:2412.05897, for copies of a network whose weights were perturbed (there:
///        Gaussian noise on the first blocks of DINOv2). The paper's uncertainty is the bound
///        2 - 2/K sum_k cos: the same order. 1 - cos is taken as half the squared distance of unit
///        vectors in float64: it does not cancel for copies that hardly differ.
class Wepe final : public Detector {
 public:
  static constexpr std::string_view kName = "wepe";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {}, .score = {.features = true, .copy_features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Wepe>(*this); }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_features, "copies/features", 1);
    score_cosines(*tile.features, *tile.copy_features, CosineStatistic::mean, out);
  }
};

}  // namespace ood
