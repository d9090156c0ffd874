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

/// Mahalanobis distance to the nearest class mean, tied covariance.
///
///   s(z) = -min_c (z - mu_c)^T S^+ (z - mu_c)                 higher = more in-distribution
///   S    = 1/n sum_i (z_i - mu_{y_i})(z_i - mu_{y_i})^T
///   z / |z|_2 in place of every z, of fit and score (normalize)
///
/// needs  features [n, D] and labels [n] in [0, C) in fit, features in score; a row of each class
/// fit    one pass: class moments in float64; then an eigendecomposition of S
/// score  features [m, D] -> out [m]; unit: squared standard deviations, negated
/// cost   fit O(n D^2 + D^3), score O(m D (D + C));
///        state D^2 + C D floats, whatever n is; in fit D^2 + 2 C D doubles more for each
///        thread, and 4096 D floats (normalize)
/// errors std::domain_error: a class without rows, features that do not vary within the classes
/// source Lee et al., NeurIPS 2018, arXiv:1807.03888, eq. 2; last layer only, no input
///        perturbation. No ridge unless asked for (others add 1e-6 I, which moves AUROC by points
///        on ill-conditioned features). Where S is singular, S^+ is its pseudo-inverse over the
///        numerical range, as in OpenOOD; rank and condition number are part of the state. See
///        ood/nearest_mean.h.
///        normalize: Mueller & Hein, ICML 2025, arXiv:2505.18032 (Mahalanobis++, MDS++). Means and
///        S are those of the normalised rows; means are not normalised again. Rows are normalised
///        in float32 (the published code: float64); a row of zeros stays zero.
class Mahalanobis final : public Detector {
 public:
  struct Options {
    double ridge = 0.0;      ///< S + ridge (tr S / D) I
    bool normalize = false;  ///< scale rows to unit l2 norm
  };
  static constexpr std::string_view kName = "mahalanobis";
  Mahalanobis() = default;
  explicit Mahalanobis(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Mahalanobis>(*this); }

  Index rank() const { return distance_.rank; }
  double condition_number() const { return distance_.condition_number; }

  void visit(FieldVisitor& v) override {
    v.option("ridge", options_.ridge, Range{.min = 0, .max = 1e6},
             "added to S, relative to its mean eigenvalue");
    v.option("normalize", options_.normalize, "scale rows to unit l2 norm first");
    distance_.visit(v, "");
  }
  std::vector<Preset> presets() const override {
    return {{"mahalanobis++", {{"normalize", true}}, "Mueller & Hein, ICML 2025"}};
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const Normalized empty(ClassMoments(info.classes, info.dim), options_.normalize);
    const ClassMoments moments = reduce(source, empty, exec).take();
    distance_.fit(moments.within_covariance(), moments.mean(), moments.means(), options_.ridge);
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { distance_.prepare(fitted_dim(), precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixView z = *tile.features;
    if (options_.normalize) {
      const MatrixMap unit = scratch.matrix(z.rows(), z.cols());
      kernels::normalize_rows(z, unit);
      z = unit;
    }
    distance_.nearest(z, out);
    kernels::scale(out, -1.0f);
  }
  Diagnostics found() const override {
    return {.values = distance_.found(""), .per_class = {}, .warnings = {}};
  }

  Options options_;
  NearestMean distance_;
};

}  // namespace ood
