#pragma once

#include <vector>

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Whitened linear discriminants (WDiscOOD): distance to the nearest class along the discriminants,
/// and distance from the mean in what they leave over.
///
///   s(z) = -min_c |g - g_c|_2 - residual_weight |h - h_mean|_2
///                                                             higher = more in-distribution
///   x    = S_w^-1/2 z,   S_w = 1/n sum_i (z_i - mu_{y_i})(z_i - mu_{y_i})^T
///   g    = B x,  h = (I - B^T B) x;  g_c of the class mean mu_c, h_mean of the mean mu of all rows
///   B    = the k eigenvectors of S_b = 1/C sum_c (x(mu_c) - x(mu))(x(mu_c) - x(mu))^T with the
///          largest eigenvalues; discriminants = 0: k is the rank of S_b, C - 1 as a rule
///
/// needs  features [n, D] and labels [n] in [0, C) in fit, features in score; a row of each class
/// fit    one pass: class means and pooled scatter in float64; then two eigendecompositions
/// score  features [m, D] -> out [m]; unit: standard deviations, negated
/// cost   fit O(n D^2 + D^3), score O(m D (D + C)); state D^2 + C k floats; in fit D^2 + 2 C D
///        doubles for each thread
/// errors std::domain_error: a class without rows; class means that are all the same; k above the
///        rank of S_b (its other directions are arbitrary); k not below the rank of S_w, so that no
///        residual is left; features that vary too little for float32
/// source Chen et al., ICCV 2023, arXiv:2303.07543. The paper takes B from (S_w' + ridge I)^-1 S_b,
///        ridge = 1e-3, where S_w' is S_w of the whitened rows: the identity, so that no ridge
///        changes the eigenvectors, and there is no such option. Where S_w is singular, S_w^-1/2 is
///        that of the pseudo-inverse (ood/nearest_mean.h). S_b weighs classes alike, as the
///        published code does. For ResNet-50 on ImageNet the paper takes k = 1000, one more than
///        the rank, here 999; preset `imagenet-vit` is its other setting.
class Wdiscood final : public Detector {
 public:
  struct Options {
    Index discriminants = 0;       ///< k; 0: all that the class means span
    double residual_weight = 5.0;  ///< in [0, 1e6]
  };
  static constexpr std::string_view kName = "wdiscood";
  Wdiscood() = default;
  explicit Wdiscood(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Wdiscood>(*this); }
  std::vector<Preset> presets() const override {
    return {{"imagenet-vit",
             {{"discriminants", Index{512}}, {"residual_weight", 1.0}},
             "the paper's for ViT-B/16 on ImageNet-1k"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("discriminants", options_.discriminants, Range::at_least(0),
             "how many; 0: all that the class means span");
    v.option("residual_weight", options_.residual_weight, Range{.min = 0, .max = 1e6},
             "of the distance in what the discriminants leave over; 5 in the paper for ResNet-50");
    v.state("discriminants", discriminants_);
    v.state("rank", rank_);
    v.state("condition_number", condition_number_);
    v.state("center", center_);
    v.state("transform", transform_);
    v.state("class_places", class_places_);
    v.state("residual_mean", residual_mean_);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override;
  bool bound_by_products() const override { return true; }
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;
  Diagnostics found() const override {
    return {.values = {{"discriminants", discriminants_},
                       {"rank", rank_},
                       {"condition_number", condition_number_}},
            .per_class = {},
            .warnings = {}};
  }

  Options options_;
  Index discriminants_ = 0;      // k
  Index rank_ = 0;               // of S_w
  double condition_number_ = 0;  // of S_w on its range
  Vector center_;                // mu, rounded [D]
  // The rows of the range of S_w^-1/2 in other coordinates: the first k give g, the others h, less
  // what they are at the center
  Matrix transform_;      // [rank, D]
  Matrix class_places_;   // g_c [C, k]
  Vector residual_mean_;  // h_mean [rank - k]: what is left of rounding mu
  // derived
  kernels::PackedMatrix packed_transform_, packed_places_;
  std::vector<float> negative_squares_;  // -|g_c|^2
};

}  // namespace ood
