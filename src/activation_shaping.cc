#include "ood/activation_shaping.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "errors.h"
#include "kernels/bodies/shaping.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

namespace ood {

namespace bodies = kernels::bodies;
using kernels::placed, kernels::rows_in, kernels::rows_out;
using kernels::require_shape, kernels::require_size;

namespace {

[[noreturn]] void throw_negative(float value, Index row, Index column) {
  throw std::domain_error(
      fmt::format("features has {} at row {}, column {}, expected 0 or more, as after a ReLU; "
                  "relu = true takes negative entries for 0",
                  value, row, column));
}

/// Whether a row may hold an entry below 0: by the signs, which a compiler can make vectors of.
bool has_sign(std::span<const float> row) {
  std::int32_t signs = 0;
  for (const float x : row) signs |= std::bit_cast<std::int32_t>(x);
  return signs < 0;
}

void non_negative_rows_on_device(const Batch& tile, bool relu, MatrixMap out,
                                 kernels::DeviceQueue& queue) {
  Scratch scratch;
  Index* const columns = relu ? nullptr : scratch.span<Index>(out.rows()).data();
  queue.run(bodies::NonNegativeRows{rows_in(*tile.features), rows_out(out), columns}, out.rows());
  if (relu || out.rows() == 0) return;
  bodies::Negative* const first = scratch.span<bodies::Negative>(1).data();
  queue.run(bodies::FirstNegative{rows_in(*tile.features), columns, first}, 1);
  bodies::Negative found;
  kernels::read_back(first, 1, &found);
  if (found.row >= 0) throw_negative(found.value, tile.first_row + found.row, found.column);
}

double sum_above(const MatrixView& row, float t) {
  double sum = 0;
  kernels::row_sum_above(row, std::span(&t, 1), std::span(&sum, 1));
  return sum;
}

/// r of a single row.
double sum_ratio(const MatrixView& row, Index k) {
  float least = 0;
  kernels::row_kth_largest(row, k, std::span(&least, 1));
  if (std::isnan(least)) return std::numeric_limits<double>::quiet_NaN();
  const double part = sum_above(row, least) + static_cast<double>(k) * static_cast<double>(least);
  return part > 0 ? sum_above(row, 0.0f) / part : 1;
}

MatrixView row_of(const MatrixView& x, Index i) { return {x.row_data(i), 1, x.cols(), x.cols()}; }

/// Where the k largest entries of each row are.
bodies::LargestEntries find_largest(const MatrixView& x, Index k, Scratch& scratch) {
  const std::span<float> least = scratch.span<float>(x.rows());
  const std::span<Index> end = scratch.span<Index>(x.rows());
  kernels::row_kth_largest(x, k, least);
  kernels::run(bodies::LargestEnds{rows_in(x), k, least.data(), end.data()}, x.rows());
  return {least.data(), end.data()};
}

}  // namespace

void non_negative_rows(const Batch& tile, bool relu, MatrixMap out) {
  require_shape("non_negative_rows", out, tile.features->rows(), tile.features->cols());
  if (kernels::DeviceQueue* const queue = kernels::device_queue())
    return non_negative_rows_on_device(tile, relu, out, *queue);
  Scratch scratch;
  const std::span<float> largest = scratch.span<float>(out.rows());
  kernels::row_max(*tile.features, largest);
  out = *tile.features;
  for (Index i = 0; i < out.rows(); ++i) {
    auto row = out.row(i);
    if (std::isnan(largest[static_cast<std::size_t>(i)])) {
      row.setConstant(std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    if (relu) {
      row = row.cwiseMax(0.0f);
      continue;
    }
    if (!has_sign({row.data(), static_cast<std::size_t>(row.size())})) continue;
    Index j = 0;
    if (const float least = row.minCoeff(&j); least < 0)
      throw_negative(least, tile.first_row + i, j);
  }
}

Index kept_entries(Index dim, double percentile) { return bodies::kept_entries(dim, percentile); }

void kept_by_rank(std::span<const double> q, std::span<const double> sorted, double least,
                  double most, Index dim, std::span<Index> out) {
  require_size("kept_by_rank", "out", out.size(), std::ssize(q));
  kernels::run(bodies::KeptByRank{q.data(), placed(sorted), std::ssize(sorted), least, most, dim,
                                  out.data()},
               std::ssize(q));
}

void row_sum_ratios(const MatrixView& x, Index k, std::span<double> out) {
  require_size("row_sum_ratios", "out", out.size(), x.rows());
  if (kernels::DeviceQueue* const queue = kernels::device_queue())
    return queue->run(bodies::RowSumRatios{rows_in(x), nullptr, k, out.data()}, x.rows());
  for (Index i = 0; i < x.rows(); ++i)
    out[static_cast<std::size_t>(i)] = sum_ratio(row_of(x, i), k);
}

void row_sum_ratios(const MatrixView& x, std::span<const Index> k, std::span<double> out) {
  require_size("row_sum_ratios", "k", k.size(), x.rows());
  require_size("row_sum_ratios", "out", out.size(), x.rows());
  if (kernels::DeviceQueue* const queue = kernels::device_queue())
    return queue->run(bodies::RowSumRatios{rows_in(x), k.data(), 0, out.data()}, x.rows());
  for (std::size_t i = 0; i < k.size(); ++i)
    out[i] = k[i] > 0 ? sum_ratio(row_of(x, static_cast<Index>(i)), k[i])
                      : std::numeric_limits<double>::quiet_NaN();
}

void keep_largest(const MatrixView& x, Index k, std::span<const double> r, MatrixMap out) {
  if (!r.empty()) require_size("keep_largest", "r", r.size(), x.rows());
  require_shape("keep_largest", out, x.rows(), x.cols());
  Scratch scratch;
  const bodies::LargestEntries largest = find_largest(x, k, scratch);
  kernels::run(
      bodies::KeepLargest{rows_in(x), largest, r.empty() ? nullptr : r.data(), rows_out(out)},
      x.rows());
}

void share_among_largest(const MatrixView& x, Index k, MatrixMap out) {
  require_shape("share_among_largest", out, x.rows(), x.cols());
  Scratch scratch;
  const bodies::LargestEntries largest = find_largest(x, k, scratch);
  kernels::run(bodies::ShareAmongLargest{rows_in(x), k, largest, rows_out(out)}, x.rows());
}

void row_shifts(const MatrixView& x, const MatrixView& y, Index k1, Index k2, double weight,
                std::span<double> out) {
  if (y.rows() != x.rows() || y.cols() != x.cols())
    throw_invalid("row_shifts: y has shape [{}, {}], expected [{}, {}] as x has", y.rows(),
                  y.cols(), x.rows(), x.cols());
  require_size("row_shifts", "out", out.size(), x.rows());
  Scratch scratch;
  const bodies::LargestEntries levels = find_largest(x, k1, scratch);
  const bodies::LargestEntries shifts = find_largest(x, k2, scratch);
  kernels::run(bodies::RowShifts{rows_in(x), rows_in(y), levels, shifts, weight, out.data()},
               x.rows());
}

void scale_rows(const MatrixView& x, std::span<const double> r, MatrixMap out) {
  require_size("scale_rows", "r", r.size(), x.rows());
  require_shape("scale_rows", out, x.rows(), x.cols());
  kernels::run(bodies::ScaleRows{rows_in(x), r.data(), rows_out(out)}, x.rows());
}

void square(std::span<const double> r, std::span<float> out) {
  require_size("square", "out", out.size(), std::ssize(r));
  kernels::run(bodies::Square{r.data(), out.data()}, std::ssize(r));
}

void clip_rows(const MatrixView& x, float t, MatrixMap out) {
  require_shape("clip_rows", out, x.rows(), x.cols());
  kernels::run(bodies::ClipRows{rows_in(x), static_cast<double>(t), rows_out(out)}, x.rows());
}

void rectify_rows(const MatrixView& x, std::span<const double> l, std::span<const double> h,
                  bool clip, double lift, MatrixMap out) {
  require_size("rectify_rows", "l", l.size(), x.cols());
  require_size("rectify_rows", "h", h.size(), x.cols());
  require_shape("rectify_rows", out, x.rows(), x.cols());
  kernels::run(
      bodies::RectifyRows{rows_in(x), placed(l), placed(h), clip ? 1 : 0, lift, rows_out(out)},
      x.rows());
}

void weigh_by_bins(const MatrixView& x, double left, double width, std::span<const double> weights,
                   MatrixMap out) {
  require_shape("weigh_by_bins", out, x.rows(), x.cols());
  kernels::run(bodies::WeighByBins{rows_in(x), left, width, placed(weights), std::ssize(weights),
                                   rows_out(out)},
               x.rows());
}

}  // namespace ood
