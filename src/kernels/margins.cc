#include "ood/kernels/margins.h"

#include "kernels/bodies/margins.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"

namespace ood::kernels {

namespace {

/// Fitted state, where kernels find it.
template <class EigenVector>
auto placed_vector(const EigenVector& v) {
  return placed(
      std::span<const typename EigenVector::Scalar>(v.data(), static_cast<std::size_t>(v.size())));
}

void require_rows(const char* kernel, const char* what, const MatrixView& x, Index rows,
                  Index cols) {
  if (x.rows() != rows || x.cols() != cols)
    throw_invalid("{}: {} has shape [{}, {}], expected [{}, {}]", kernel, what, x.rows(), x.cols(),
                  rows, cols);
}

std::size_t size_of(Index size) { return static_cast<std::size_t>(size); }

}  // namespace

void subtract_mean(const MatrixView& x, const VectorD& mean, MatrixMap out) {
  require_size("subtract_mean", "mean", size_of(mean.size()), x.cols());
  require_shape("subtract_mean", out, x.rows(), x.cols());
  run(bodies::SubtractMean{rows_in(x), placed_vector(mean), rows_out(out)}, x.rows());
}

void standardize(const MatrixView& x, const Vector& mean, const Vector& scale, MatrixMap out) {
  require_size("standardize", "mean", size_of(mean.size()), x.cols());
  require_size("standardize", "scale", size_of(scale.size()), x.cols());
  require_shape("standardize", out, x.rows(), x.cols());
  run(bodies::Standardize{rows_in(x), placed_vector(mean), placed_vector(scale), rows_out(out)},
      x.rows());
}

void exponentiate(std::span<float> x) { run(bodies::Exponentiate{x.data()}, std::ssize(x)); }

void invert(std::span<float> x) { run(bodies::Invert{x.data()}, std::ssize(x)); }

void row_affine(const MatrixView& x, const VectorD& weight, double intercept,
                std::span<float> out) {
  require_size("row_affine", "weight", size_of(weight.size()), x.cols());
  require_size("row_affine", "out", out.size(), x.rows());
  run(bodies::RowAffine{rows_in(x), placed_vector(weight), intercept, out.data()}, x.rows());
}

void row_mean_margin(const MatrixView& logits, std::span<const Index> predicted,
                     const Matrix& distances, std::span<const float> lengths,
                     std::span<float> out) {
  require_size("row_mean_margin", "predicted", predicted.size(), logits.rows());
  require_size("row_mean_margin", "lengths", lengths.size(), logits.rows());
  require_size("row_mean_margin", "out", out.size(), logits.rows());
  require_rows("row_mean_margin", "distances", distances, logits.cols(), logits.cols());
  run(bodies::RowMeanMargin{rows_in(logits), predicted.data(), placed(distances), lengths.data(),
                            out.data()},
      logits.rows());
}

void row_widest_angle(const MatrixView& x, const VectorD& center, const MatrixView& logits,
                      const VectorD& center_logits, std::span<const Index> predicted,
                      const Matrix& distances, std::span<float> out) {
  require_size("row_widest_angle", "center", size_of(center.size()), x.cols());
  require_rows("row_widest_angle", "logits", logits, x.rows(), center_logits.size());
  require_size("row_widest_angle", "predicted", predicted.size(), x.rows());
  require_rows("row_widest_angle", "distances", distances, logits.cols(), logits.cols());
  require_size("row_widest_angle", "out", out.size(), x.rows());
  run(bodies::RowWidestAngle{rows_in(x), placed_vector(center), rows_in(logits),
                             placed_vector(center_logits), predicted.data(), placed(distances),
                             out.data()},
      x.rows());
}

void row_relative_error(const MatrixView& x, std::span<const Index> predicted, const Matrix& means,
                        const Matrix& weight, std::span<const float> confidence,
                        double mean_confidence, std::span<float> out) {
  require_size("row_relative_error", "predicted", predicted.size(), x.rows());
  require_rows("row_relative_error", "means", means, means.rows(), x.cols());
  require_rows("row_relative_error", "weight", weight, means.rows(), x.cols());
  require_size("row_relative_error", "confidence", confidence.size(), x.rows());
  require_size("row_relative_error", "out", out.size(), x.rows());
  run(bodies::RowRelativeError{rows_in(x), placed(means), placed(weight), predicted.data(),
                               confidence.data(), mean_confidence, out.data()},
      x.rows());
}

void row_regret(const MatrixView& logits, std::span<const float> lengths, std::span<float> out) {
  require_size("row_regret", "lengths", lengths.size(), logits.rows());
  require_size("row_regret", "out", out.size(), logits.rows());
  run(bodies::RowRegret{rows_in(logits), lengths.data(), out.data()}, logits.rows());
}

void row_excess_probabilities(const MatrixView& x, MatrixMap out) {
  require_shape("row_excess_probabilities", out, x.rows(), x.cols());
  run(bodies::RowExcessProbabilities{rows_in(x), rows_out(out)}, x.rows());
}

void scale_by(MatrixMap x, float factor, const MatrixView& z) {
  require_rows("scale_by", "z", z, x.rows(), x.cols());
  run(bodies::ScaleBy{rows_out(x), factor, rows_in(z)}, x.rows());
}

void row_binned_share(const MatrixView& x, std::span<const float> edges, const Matrix& table,
                      double total, std::span<float> out) {
  require_size("row_binned_share", "out", out.size(), x.rows());
  require_rows("row_binned_share", "table", table, x.cols(), std::ssize(edges) + 1);
  run(bodies::RowBinnedShare{rows_in(x), placed(edges), placed(MatrixView(table)), total,
                             out.data()},
      x.rows());
}

namespace {

RowsOf<double> rows_of_doubles(MatrixDMap x) { return {x.data(), x.cols(), x.rows(), x.cols()}; }

RowsOf<const double> placed_rows(const MatrixD& x) {
  return {placed(std::span<const double>(x.data(), size_of(x.size()))), x.cols(), x.rows(),
          x.cols()};
}

}  // namespace

void row_log_softmax(const MatrixView& x, MatrixDMap log_p, MatrixDMap p, MatrixMap rounded) {
  for (const auto* out : {&log_p, &p})
    if (out->rows() != x.rows() || out->cols() != x.cols())
      throw_invalid("row_log_softmax: out has shape [{}, {}], expected [{}, {}]", out->rows(),
                    out->cols(), x.rows(), x.cols());
  require_shape("row_log_softmax", rounded, x.rows(), x.cols());
  run(bodies::RowLogSoftmax{rows_in(x), rows_of_doubles(log_p), rows_of_doubles(p),
                            rows_out(rounded)},
      x.rows());
}

void row_least_divergence(MatrixDMap log_p, MatrixDMap p, const MatrixView& dots, double slack,
                          std::span<const Index> present, std::span<const Index> predicted,
                          const MatrixD& templates, std::span<float> out) {
  require_size("row_least_divergence", "out", out.size(), p.rows());
  require_size("row_least_divergence", "predicted", predicted.size(), p.rows());
  if (dots.cols() > 0)
    require_rows("row_least_divergence", "dots", dots, p.rows(), std::ssize(present));
  run(bodies::RowLeastDivergence{rows_of_doubles(log_p), rows_of_doubles(p), rows_in(dots), slack,
                                 placed(present), predicted.data(), placed_rows(templates),
                                 out.data()},
      p.rows());
}

void row_revised_logits(const MatrixView& logits, Index top, const MatrixD& means,
                        const WeibullTails& tails, MatrixMap revised, std::span<double> unknown) {
  require_shape("row_revised_logits", revised, logits.rows(), logits.cols());
  require_size("row_revised_logits", "unknown", unknown.size(), logits.rows());
  if (top > logits.cols())
    throw_invalid("row_revised_logits: top has {}, expected at most {}", top, logits.cols());
  run(bodies::RowRevisedLogits{rows_in(logits), top, placed_rows(means),
                               placed_vector(tails.smallest), placed_vector(tails.shape),
                               placed_vector(tails.log_scale), rows_out(revised), unknown.data()},
      logits.rows());
}

void subtract_sums(std::span<float> out, std::span<const double> less) {
  require_size("subtract_sums", "less", less.size(), std::ssize(out));
  run(bodies::SubtractSums{out.data(), less.data()}, std::ssize(out));
}

}  // namespace ood::kernels
