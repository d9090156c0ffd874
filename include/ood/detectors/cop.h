#pragma once

#include <string>

#include "ood/accumulators/normalized.h"
#include "ood/accumulators/row_moments.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/principal_space.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Kernel PCA with the cosine kernel (CoP): what the principal directions leave over of a row at
/// unit length.
///
///   s(z) = -|(I - U^T U)(z' - mu)|_2,   z' = z / |z|_2        higher = more in-distribution
///   mu   = 1/n sum_i z'_i,   S = 1/n sum_i (z'_i - mu)(z'_i - mu)^T
///   U    = the q eigenvectors of S with the largest eigenvalues l, q the smallest with
///          l_1 + ... + l_q >= variance (l_1 + ... + l_D)
///
/// needs  features [n, D] in fit and in score
/// fit    one pass: moments of the normalised rows in float64; then an eigendecomposition of S
/// score  features [m, D] -> out [m]; in [-2, 0], 2 for opposite directions
/// cost   fit O(n D^2 + D^3), score O(m D q); state q D floats; in fit 2 D^2 doubles and 4096 D
///        floats for each thread
/// errors std::domain_error: a variance that takes all directions in which the features vary (q not
///        below the rank of S), so that no residual is left
/// source Fang et al., NeurIPS 2024, arXiv:2402.02949, CoP, with its variance for CIFAR-10; preset
///        `imagenet` is the other one. No deviation: the published code adds 1e-10 to the norms, so
///        that a row of zeros stays zero, as here. Its fusion with other scores is not here.
class Cop final : public Detector {
 public:
  struct Options {
    double variance = 0.85;  ///< share of it that the principal directions hold, in (0, 1)
  };
  static constexpr std::string_view kName = "cop";
  Cop() = default;
  explicit Cop(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {.features = true}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Cop>(*this); }
  std::vector<Preset> presets() const override {
    return {{"imagenet", {{"variance", 0.99}}, "the paper's for ImageNet-1k"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("variance", options_.variance, Range{.min = 0, .max = 1, .open_min = true},
             "share of it that the principal directions hold; 0.85 in the paper for CIFAR-10");
    space_.visit(v);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const Normalized empty{RowMoments(source.info().dim)};
    const RowMoments moments = reduce(source, empty, exec).take();
    space_.fit(moments.covariance(), moments.mean(), options_.variance);
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { space_.prepare(fitted_dim(), precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap unit = scratch.matrix(tile.rows(), tile.features->cols());
    kernels::normalize_rows(*tile.features, unit);
    space_.residual_norms(unit, out);
    kernels::scale(out, -1.0f);
  }
  Diagnostics found() const override {
    return {.values = space_.found(), .per_class = {}, .warnings = {}};
  }

  Options options_;
  PrincipalSpace space_;
};

}  // namespace ood
