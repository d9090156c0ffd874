// Epilogues on a tile of products: largest, log-sum-exp by rows, cosines, log-sum-exp by columns.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/epilogues.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/vector-inl.h"
#include "ood/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

/// scale dot + offset. One instruction where the target has it: of a product and a sum the compiler
/// may or may not make one, and then not the same bits in two places.
HWY_INLINE V32 affine(V32 scale, V32 dot, V32 offset) { return hn::MulAdd(scale, dot, offset); }

struct AffineMax {
  float max;
  float poison;  // of the products alone: an offset may be -infinity
};

/// max_j scale dots_j + offset_j; products in the tail are filled with the first of the row.
HWY_INLINE AffineMax affine_max(const float* dots, const float* offset, size_t n, float scale) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const V32 factor = hn::Set(d, scale);
  V32 largest = hn::Set(d, kNothing), poison = hn::Zero(d);
  const auto step = [&](V32 dot, V32 add) HWY_ATTR {
    poison = add_poison(poison, hn::Mul(factor, dot));
    largest = hn::Max(largest, affine(factor, dot, add));
  };
  size_t j = 0;
  for (; j + lanes <= n; j += lanes) step(hn::LoadU(d, dots + j), hn::LoadU(d, offset + j));
  if (j < n)
    step(load_tail(d, dots + j, n - j, dots[0]), load_tail(d, offset + j, n - j, kNothing));
  return {max_lanes(largest), sum_lanes(poison)};
}

void RowMaxAffine(const float* dots, size_t stride, size_t rows, size_t cols, float scale,
                  const float* offset, float* out) {
  for (size_t i = 0; i < rows; ++i) {
    const auto [max, poison] = affine_max(dots + i * stride, offset, cols, scale);
    out[i] = max + poison;
  }
}

void RowArgmaxAffine(const float* dots, size_t stride, size_t rows, size_t cols, float scale,
                     const float* offset, Index* out) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const V32 factor = hn::Set(d, scale);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = dots + i * stride;
    const auto [largest, poison] = affine_max(row, offset, cols, scale);
    out[i] = 0;
    if (poison != 0.0f) continue;  // NaN != 0
    const V32 max = hn::Set(d, largest);
    for (size_t j = 0; j < cols; j += lanes) {
      const bool whole = j + lanes <= cols;
      const V32 dot = whole ? hn::LoadU(d, row + j) : load_tail(d, row + j, cols - j, row[0]);
      const V32 add =
          whole ? hn::LoadU(d, offset + j) : load_tail(d, offset + j, cols - j, kNothing);
      // the same bits as in affine_max, so that one entry is equal
      const auto found = hn::FindFirstTrue(d, hn::Eq(affine(factor, dot, add), max));
      if (found < 0) continue;
      out[i] = static_cast<Index>(j) + found;
      break;
    }
  }
}

void RowLogSumExpAffine(const float* dots, size_t stride, size_t rows, size_t cols,
                        const float* scale, const float* offset, float* out) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = dots + i * stride;
    const auto [largest, poison] = affine_max(row, offset, cols, scale[i]);
    if (largest == kNothing) {  // no term at all
      out[i] = largest + poison;
      continue;
    }
    const V32 factor = hn::Set(d, scale[i]), max = hn::Set(d, largest);
    V32 sum = hn::Zero(d);
    const auto step = [&](V32 dot, V32 add) HWY_ATTR {
      // the same bits as in affine_max, so that the largest exponent is 0
      sum = hn::Add(sum, hn::Exp(d, hn::Sub(affine(factor, dot, add), max)));
    };
    size_t j = 0;
    for (; j + lanes <= cols; j += lanes) step(hn::LoadU(d, row + j), hn::LoadU(d, offset + j));
    if (j < cols)
      step(load_tail(d, row + j, cols - j, row[0]), load_tail(d, offset + j, cols - j, kNothing));
    out[i] = static_cast<float>(static_cast<double>(largest) +
                                std::log(static_cast<double>(sum_lanes(sum)))) +
             poison;
  }
}

void Cosines(const float* dots, size_t stride, size_t rows, size_t cols, const float* offset,
             float scale, float* out) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const V32 factor = hn::Set(d, scale), farthest = hn::Set(d, 39000.0f);
  const V32 none = hn::Set(d, std::numeric_limits<float>::quiet_NaN());
  const auto value = [&](V32 dot, V32 add) HWY_ATTR {
    const V32 angle = hn::Add(dot, add);
    const auto known = hn::Le(hn::Abs(angle), farthest);  // not for NaN
    const V32 cosine = hn::Cos(d, hn::IfThenElseZero(known, angle));
    return hn::IfThenElse(known, hn::Mul(factor, cosine), none);
  };
  for (size_t i = 0; i < rows; ++i) {
    const float* row = dots + i * stride;
    float* to = out + i * cols;
    size_t j = 0;
    for (; j + lanes <= cols; j += lanes)
      hn::StoreU(value(hn::LoadU(d, row + j), hn::LoadU(d, offset + j)), d, to + j);
    if (j == cols) continue;
    HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(
        value(load_tail(d, row + j, cols - j, 0.0f), load_tail(d, offset + j, cols - j, 0.0f)), d,
        tail);
    std::copy_n(tail, cols - j, to + j);
  }
}

/// One group of up to Lanes columns, all rows of the tile.
HWY_INLINE void column_group(const float* dots, size_t stride, size_t rows, size_t width,
                             const float* scale, const float* shift, double* max, double* sum,
                             double* squares) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const auto value = [&](size_t i) HWY_ATTR {
    const float* from = dots + i * stride;
    const V32 dot = width == lanes ? hn::LoadU(d, from) : load_tail(d, from, width, 0.0f);
    return hn::MulAdd(hn::Set(d, scale[i]), dot, hn::Set(d, shift[i]));
  };
  V32 largest = hn::Set(d, std::numeric_limits<float>::lowest()), poison = hn::Zero(d);
  for (size_t i = 0; i < rows; ++i) {
    const V32 e = value(i);
    largest = hn::Max(largest, e);
    poison = add_poison(poison, e);
  }
  V32 terms = hn::Zero(d), term_squares = hn::Zero(d);
  for (size_t i = 0; i < rows; ++i) {
    const V32 term = hn::Exp(d, hn::Sub(value(i), largest));
    terms = hn::Add(terms, term);
    term_squares = hn::MulAdd(term, term, term_squares);
  }

  constexpr size_t kMostLanes = HWY_MAX_BYTES / sizeof(float);
  HWY_ALIGN float tile_max[kMostLanes], tile_sum[kMostLanes], tile_squares[kMostLanes];
  hn::Store(hn::Add(largest, poison), d, tile_max);
  hn::Store(hn::Add(terms, poison), d, tile_sum);
  hn::Store(hn::Add(term_squares, poison), d, tile_squares);
  for (size_t j = 0; j < width; ++j) {
    const double joint = std::max(max[j], static_cast<double>(tile_max[j]));
    const double before = std::exp(max[j] - joint),
                 here = std::exp(static_cast<double>(tile_max[j]) - joint);
    sum[j] = sum[j] * before + static_cast<double>(tile_sum[j]) * here;
    squares[j] = squares[j] * before * before + static_cast<double>(tile_squares[j]) * here * here;
    max[j] = joint;
  }
}

void ColumnLogSumExp(const float* dots, size_t stride, size_t rows, size_t cols, const float* scale,
                     const float* shift, double* max, double* sum, double* squares) {
  const size_t lanes = hn::Lanes(F32());
  for (size_t j = 0; j < cols; j += lanes)
    column_group(dots + j, stride, rows, std::min(lanes, cols - j), scale, shift, max + j, sum + j,
                 squares + j);
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/bodies/epilogues.h"
#include "kernels/bodies/rows.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "kernels/dispatch.h"
#include "ood/scratch.h"

namespace ood::kernels {

HWY_EXPORT(RowMaxAffine);
HWY_EXPORT(RowArgmaxAffine);
HWY_EXPORT(RowLogSumExpAffine);
HWY_EXPORT(Cosines);
HWY_EXPORT(ColumnLogSumExp);

void row_max_affine(const MatrixView& dots, float scale, std::span<const float> offset,
                    std::span<float> out) {
  const Rows r = rows_of("row_max_affine", dots, out.size());
  require_size("row_max_affine", "offset", offset.size(), dots.cols());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowMaxAffine{rows_in(dots), scale, placed(offset), out.data()},
                      dots.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowMaxAffine)
  (r.data, r.stride, r.rows, r.cols, scale, offset.data(), out.data());
}

void row_argmax_affine(const MatrixView& dots, float scale, std::span<const float> offset,
                       std::span<Index> out) {
  const Rows r = rows_of("row_argmax_affine", dots, out.size());
  require_size("row_argmax_affine", "offset", offset.size(), dots.cols());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowArgmaxAffine{rows_in(dots), scale, placed(offset), out.data()},
                      dots.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowArgmaxAffine)
  (r.data, r.stride, r.rows, r.cols, scale, offset.data(), out.data());
}

void row_argmax(const MatrixView& x, std::span<Index> out) {
  rows_of("row_argmax", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowArgmax{rows_in(x), out.data()}, x.rows());
  Scratch scratch;
  const std::span<float> zeros = scratch.span<float>(x.cols()),
                         largest = scratch.span<float>(x.rows());
  std::ranges::fill(zeros, 0.0f);
  row_argmax_affine(x, 1.0f, zeros, out);
  row_max(x, largest);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (std::isnan(largest[i])) out[i] = -1;
}

void row_log_sum_exp_affine(const MatrixView& dots, std::span<const float> scale,
                            std::span<const float> offset, std::span<float> out) {
  const Rows r = rows_of("row_log_sum_exp_affine", dots, out.size());
  require_size("row_log_sum_exp_affine", "scale", scale.size(), dots.rows());
  require_size("row_log_sum_exp_affine", "offset", offset.size(), dots.cols());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(
        bodies::RowLogSumExpAffine{rows_in(dots), placed(scale), placed(offset), out.data()},
        dots.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowLogSumExpAffine)
  (r.data, r.stride, r.rows, r.cols, scale.data(), offset.data(), out.data());
}

void cosines(const MatrixView& dots, std::span<const float> offset, float scale, MatrixMap out) {
  const Rows r = rows_of("cosines", dots, static_cast<size_t>(dots.rows()));
  require_size("cosines", "offset", offset.size(), dots.cols());
  require_shape("cosines", out, dots.rows(), dots.cols());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::Cosines{rows_in(dots), placed(offset), scale, rows_out(out)},
                      dots.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(Cosines)
  (r.data, r.stride, r.rows, r.cols, offset.data(), scale, out.data());
}

void cosines(const MatrixView& dots, std::span<const float> offset, float scale, Matrix& out) {
  out.resize(dots.rows(), dots.cols());
  cosines(dots, offset, scale, map_of(out));
}

void column_log_sum_exp(const MatrixView& dots, std::span<const float> scale,
                        std::span<const float> shift, std::span<double> max, std::span<double> sum,
                        std::span<double> squares) {
  const Rows r = rows_of("column_log_sum_exp", dots, static_cast<size_t>(dots.rows()));
  require_size("column_log_sum_exp", "scale", scale.size(), dots.rows());
  require_size("column_log_sum_exp", "shift", shift.size(), dots.rows());
  require_size("column_log_sum_exp", "max", max.size(), dots.cols());
  require_size("column_log_sum_exp", "sum", sum.size(), dots.cols());
  require_size("column_log_sum_exp", "squares", squares.size(), dots.cols());
  if (r.rows == 0) return;
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::ColumnLogSumExp{rows_in(dots), scale.data(), shift.data(), max.data(),
                                              sum.data(), squares.data()},
                      dots.cols());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(ColumnLogSumExp)
  (r.data, r.stride, r.rows, r.cols, scale.data(), shift.data(), max.data(), sum.data(),
   squares.data());
}

}  // namespace ood::kernels
#endif
