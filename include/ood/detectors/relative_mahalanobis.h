#pragma once

#include "ood/accumulators/class_moments.h"
#include "ood/accumulators/normalized.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/nearest_mean.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Relative Mahalanobis distance: to the nearest class, less that to all data as one Gaussian.
///
///   s(z)  = -min_c [d_c^2(z) - d_0^2(z)]                      higher = more in-distribution
///   d_c^2 = (z - mu_c)^T S^+ (z - mu_c),    S   = 1/n sum_i (z_i - mu_{y_i})(z_i - mu_{y_i})^T
///   d_0^2 = (z - mu)^T S_0^+ (z - mu),      S_0 = 1/n sum_i (z_i - mu)(z_i - mu)^T
///   z / |z|_2 in place of every z, of fit and score (normalize)
///
/// needs  features [n, D] and labels [n] in [0, C) in fit, features in score; a row of each class
/// fit    one pass: class moments in float64 (S_0 = S + between-class scatter); then two
///        eigendecompositions
/// score  features [m, D] -> out [m]; unit: squared standard deviations
/// cost   fit O(n D^2 + D^3), score O(m D (2 D + C));
///        state 2 D^2 + C D floats, whatever n is; in fit D^2 + 2 C D doubles more for each
///        thread, and 4096 D floats (normalize)
/// errors std::domain_error: a class without rows, features that do not vary within the classes
/// source Ren et al., arXiv:2106.09022. Both covariances are divided by n, as there (pytorch-ood
///        0.2 left the background one undivided, detectors subtracts square roots); ridge and
///        pseudo-inverse as in mahalanobis, each covariance by its own trace.
///        normalize (Mueller & Hein, ICML 2025, arXiv:2505.18032: RMDS++) as in mahalanobis.
class RelativeMahalanobis final : public Detector {
 public:
  struct Options {
    double ridge = 0.0;      ///< S + ridge (tr S / D) I, and the same for S_0
    bool normalize = false;  ///< scale rows to unit l2 norm
  };
  static constexpr std::string_view kName = "relative_mahalanobis";
  RelativeMahalanobis() = default;
  explicit RelativeMahalanobis(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<RelativeMahalanobis>(*this);
  }

  Index rank() const { return classes_.rank; }
  double condition_number() const { return classes_.condition_number; }
  Index background_rank() const { return background_.rank; }
  double background_condition_number() const { return background_.condition_number; }

  void visit(FieldVisitor& v) override {
    v.option("ridge", options_.ridge, Range{.min = 0, .max = 1e6},
             "added to both covariances, relative to their mean eigenvalues");
    v.option("normalize", options_.normalize, "scale rows to unit l2 norm first");
    classes_.visit(v, "");
    background_.visit(v, "background_");
  }
  std::vector<Preset> presets() const override {
    return {{"relative_mahalanobis++", {{"normalize", true}}, "Mueller & Hein, ICML 2025"}};
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const Normalized empty(ClassMoments(info.classes, info.dim), options_.normalize);
    const ClassMoments moments = reduce(source, empty, exec).take();
    const VectorD mu = moments.mean();
    classes_.fit(moments.within_covariance(), mu, moments.means(), options_.ridge);
    background_.fit(moments.total_covariance(), mu, mu.transpose(), options_.ridge);
  }
  bool bound_by_products() const override { return true; }
  void prepare() override {
    classes_.prepare(fitted_dim(), precision());
    background_.prepare(fitted_dim(), precision());
  }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::span<float> background = scratch.span<float>(tile.rows());
    MatrixView z = *tile.features;
    if (options_.normalize) {
      const MatrixMap unit = scratch.matrix(z.rows(), z.cols());
      kernels::normalize_rows(z, unit);
      z = unit;
    }
    classes_.nearest(z, out);
    background_.nearest(z, background);
    kernels::add_scaled(background, -1, out, out);
  }
  Diagnostics found() const override {
    Diagnostics all{.values = classes_.found(""), .per_class = {}, .warnings = {}};
    for (auto& value : background_.found("background_")) all.values.push_back(std::move(value));
    return all;
  }

  Options options_;
  NearestMean classes_;
  NearestMean background_;  // the same with one mean, mu
};

}  // namespace ood
