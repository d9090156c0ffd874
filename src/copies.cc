#include "ood/copies.h"

#include "errors.h"
#include "kernels/bodies/copies.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

namespace ood {

namespace {

namespace bodies = kernels::bodies;

Index copies_of(const Tensor3View& copies) { return static_cast<Index>(copies.shape()[0]); }

bodies::CopiesOf copies_in(const Tensor3View& x) {
  const auto& strides = x.strides();
  return {x.data(),
          strides[0],
          strides[1],
          copies_of(x),
          static_cast<Index>(x.shape()[1]),
          static_cast<Index>(x.shape()[2])};
}

/// What a body may write to, [n, entries]. The processor takes one row after the other, all in the
/// same memory, which stays in its cache.
kernels::RowsOf<double> memory_for(Scratch& scratch, Index rows, Index entries) {
  const bool shared = kernels::device_queue() == nullptr;
  return {scratch.span<double>(shared ? entries : rows * entries).data(), shared ? 0 : entries,
          rows, entries};
}

}  // namespace

MatrixView copy_rows(const Tensor3View& copies, Index k) {
  const auto& strides = copies.strides();
  return {copies.data() + k * strides[0], static_cast<Index>(copies.shape()[1]),
          static_cast<Index>(copies.shape()[2]), strides[1]};
}

Tensor3View copies_of_rows(const MatrixView& rows, Index copies) {
  const Index each = rows.rows() / copies, stride = rows.outerStride();
  return xt::adapt(
      rows.data(), static_cast<std::size_t>(rows.size()), xt::no_ownership(),
      std::array<std::size_t, 3>{static_cast<std::size_t>(copies), static_cast<std::size_t>(each),
                                 static_cast<std::size_t>(rows.cols())},
      std::array<std::ptrdiff_t, 3>{each * stride, stride, 1});
}

void require_copies(const Tensor3View& copies, std::string_view what, Index least) {
  if (copies_of(copies) < least)
    throw std::domain_error(
        fmt::format("{} has K = {} copies, expected {} or more", what, copies_of(copies), least));
}

void mean_of_copies(const Tensor3View& copies, MatrixMap out) {
  const bodies::CopiesOf x = copies_in(copies);
  kernels::require_shape("mean_of_copies", out, x.rows, x.cols);
  kernels::run(bodies::MeanOfCopies{x, kernels::rows_out(out)}, x.rows);
}

void score_probabilities(const Tensor3View& logits, ProbabilityStatistic statistic,
                         std::span<float> out) {
  const bodies::CopiesOf x = copies_in(logits);
  kernels::require_size("score_probabilities", "out", out.size(), x.rows);
  Scratch scratch;
  const auto memory =
      memory_for(scratch, x.rows, bodies::CopyProbabilities::entries(x.copies, x.cols));
  kernels::run(bodies::ScoreProbabilities{x, statistic, memory, out.data()}, x.rows);
}

void score_cosines(const MatrixView& z, const Tensor3View& copies, CosineStatistic statistic,
                   std::span<float> out) {
  const bodies::CopiesOf x = copies_in(copies);
  if (x.rows != z.rows() || x.cols != z.cols())
    throw_invalid("score_cosines: copies have shape [{}, {}], expected [{}, {}] as z has", x.rows,
                  x.cols, z.rows(), z.cols());
  kernels::require_size("score_cosines", "out", out.size(), x.rows);
  Scratch scratch;
  const auto memory = memory_for(scratch, x.rows, x.copies);
  kernels::run(bodies::ScoreCosines{kernels::rows_in(z), x, statistic, memory, out.data()}, x.rows);
}

void variation_ratio(const Tensor3View& logits, std::span<float> out) {
  const Index copies = copies_of(logits), rows = std::ssize(out);
  Scratch scratch;
  const std::span<Index> predicted = scratch.span<Index>(copies * rows);
  for (Index k = 0; k < copies; ++k)
    kernels::row_argmax(copy_rows(logits, k),
                        predicted.subspan(static_cast<std::size_t>(k * rows), out.size()));
  kernels::run(bodies::VariationRatio{predicted.data(), copies, rows, out.data()}, rows);
}

void mean_negative_entropy(const Tensor3View& logits, std::span<float> out) {
  const Index copies = copies_of(logits), rows = std::ssize(out);
  Scratch scratch;
  const std::span<float> each = scratch.span<float>(copies * rows);
  for (Index k = 0; k < copies; ++k)
    kernels::row_negative_entropy(copy_rows(logits, k),
                                  each.subspan(static_cast<std::size_t>(k * rows), out.size()));
  kernels::run(bodies::MeanOfScores{each.data(), copies, rows, out.data()}, rows);
}

void cross_max(const Tensor3View& members, Index k, MatrixMap out) {
  const bodies::CopiesOf x = copies_in(members);
  kernels::require_shape("cross_max", out, x.rows, x.cols);
  if (k < 0 || k > x.copies) throw_invalid("cross_max: k has {}, expected 0 to {}", k, x.copies);
  Scratch scratch;
  const auto memory = memory_for(scratch, x.rows, x.copies * x.cols);
  kernels::run(bodies::CrossMax{x, k, memory, kernels::rows_out(out)}, x.rows);
}

}  // namespace ood
