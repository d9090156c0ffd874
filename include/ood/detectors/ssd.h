#pragma once

#include "ood/accumulators/normalized.h"
#include "ood/accumulators/row_moments.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/nearest_mean.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Mahalanobis distance to all training rows as one Gaussian, on directions; needs no labels.
///
///   s(z) = -(z' - mu)^T S^+ (z' - mu),   z' = z / |z|_2       higher = more in-distribution
///   mu   = 1/n sum_i z'_i,   S = 1/n sum_i (z'_i - mu)(z'_i - mu)^T
///
/// needs  features [n, D] in fit and in score
/// fit    one pass: moments of the normalised rows in float64; then an eigendecomposition of S
/// score  features [m, D] -> out [m]; unit: squared standard deviations, negated
/// cost   fit O(n D^2 + D^3), score O(m D^2);
///        state D^2 floats, whatever n is; in fit 2 D^2 doubles and 4096 D floats more for each
///        thread
/// errors std::domain_error: features whose directions do not vary
/// source Sehwag et al., ICLR 2021, arXiv:2103.12051, the unsupervised case: one cluster, which is
///        the authors' setting; they train the network with a contrastive loss, any will do here.
///        The published code also divides each normalised feature by its standard deviation: the
///        same distance where S has full rank. Where S is singular, S^+ is its pseudo-inverse over
///        the numerical range (ood/nearest_mean.h), as theirs but for that scaling. No ridge unless
///        asked for. OpenOOD fits one class without the l2-normalisation of the paper; detectors
///        clusters by k-means. A row of zeros stays zero.
class Ssd final : public Detector {
 public:
  struct Options {
    double ridge = 0.0;  ///< S + ridge (tr S / D) I
  };
  static constexpr std::string_view kName = "ssd";
  Ssd() = default;
  explicit Ssd(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {.features = true}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Ssd>(*this); }

  Index rank() const { return distance_.rank; }
  double condition_number() const { return distance_.condition_number; }

  void visit(FieldVisitor& v) override {
    v.option("ridge", options_.ridge, Range{.min = 0, .max = 1e6},
             "added to S, relative to its mean eigenvalue");
    distance_.visit(v, "");
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const Normalized empty{RowMoments(source.info().dim)};
    const RowMoments moments = reduce(source, empty, exec).take();
    const VectorD mu = moments.mean();
    distance_.fit(moments.covariance(), mu, mu.transpose(), options_.ridge);
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { distance_.prepare(fitted_dim(), precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap unit = scratch.matrix(tile.rows(), tile.features->cols());
    kernels::normalize_rows(*tile.features, unit);
    distance_.nearest(unit, out);
    kernels::scale(out, -1.0f);
  }
  Diagnostics found() const override {
    return {.values = distance_.found(""), .per_class = {}, .warnings = {}};
  }

  Options options_;
  NearestMean distance_;  // to one mean, mu
};

}  // namespace ood
