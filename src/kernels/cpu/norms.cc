// Norms, selected products and distances, and the search for what is not a number.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norms.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include "kernels/cpu/exp-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

/// sum_j ratio_j^order over a row of ratios = |x| / max|x| and their logarithms to the base 2.
HWY_INLINE double power_sum(const float* ratios, const float* logs, size_t n, double order) {
  const F32 d;
  V32 sum = hn::Zero(d);
  if (order == 2.0) {
    for_each_vector(ratios, n, 0.0f, [&](V32 r) HWY_ATTR { sum = hn::MulAdd(r, r, sum); });
  } else {
    const ScaledExp2 power(order);
    // An entry of 0 adds up to 2^-126: nothing beside the largest, which adds 1
    for_each_vector(logs, n, -std::numeric_limits<float>::infinity(),
                    [&](V32 log) HWY_ATTR { sum = hn::Add(sum, power(log)); });
  }
  return static_cast<double>(sum_lanes(sum));
}

void RowNorms(const float* x, size_t stride, size_t rows, size_t cols, const double* orders,
              size_t count, float* out) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  bool need_logs = false;
  for (size_t k = 0; k < count; ++k) need_logs |= orders[k] != 2.0;
  const size_t padded = (cols + lanes - 1) / lanes * lanes;
  Scratch scratch;
  std::pmr::vector<float> ratios(padded, &scratch), logs(need_logs ? padded : 0, &scratch);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    V32 largest = hn::Zero(d), poison = hn::Zero(d);
    for_each_vector(row, cols, 0.0f, [&](V32 v) HWY_ATTR {
      largest = hn::Max(largest, hn::Abs(v));
      poison = add_poison(poison, v);
    });
    const float max = max_lanes(largest), bad = sum_lanes(poison);
    if (max == 0.0f || bad != 0.0f) {  // NaN != 0
      for (size_t k = 0; k < count; ++k) out[i * count + k] = bad;
      continue;
    }
    // |x| / max by two factors: a power of two, which is exact, and what is left of 1 / max, which
    // neither overflows nor underflows then
    const int shift = std::clamp(-std::ilogb(max), -126, 126);
    const V32 scale = hn::Set(d, std::ldexp(1.0f, shift));
    const V32 reciprocal = hn::Set(d, 1.0f / std::ldexp(max, shift));
    size_t j = 0;
    for_each_vector(row, cols, 0.0f, [&](V32 v) HWY_ATTR {
      const V32 ratio = hn::Mul(hn::Mul(hn::Abs(v), scale), reciprocal);
      hn::StoreU(ratio, d, ratios.data() + j);
      if (need_logs) hn::StoreU(log2_of(ratio), d, logs.data() + j);
      j += lanes;
    });
    for (size_t k = 0; k < count; ++k)
      out[i * count + k] = static_cast<float>(
          static_cast<double>(max) *
          std::pow(power_sum(ratios.data(), logs.data(), cols, orders[k]), 1.0 / orders[k]));
  }
}

void NormalizeRows(const float* x, size_t stride, size_t rows, size_t cols, float* out) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float last[HWY_MAX_BYTES / sizeof(float)];
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    float* unit = out + i * cols;
    V32 largest = hn::Zero(d), poison = hn::Zero(d);
    for_each_vector(row, cols, 0.0f, [&](V32 v) HWY_ATTR {
      largest = hn::Max(largest, hn::Abs(v));
      poison = add_poison(poison, v);
    });
    const float max = max_lanes(largest), bad = sum_lanes(poison);
    if (max == 0.0f || bad != 0.0f) {  // NaN != 0
      std::fill_n(unit, cols, bad);
      continue;
    }
    // By a power of two, which is exact, the largest entry comes into [1, 4): squares neither
    // overflow nor underflow then
    const V32 scale = hn::Set(d, std::ldexp(1.0f, std::clamp(-std::ilogb(max), -126, 126)));
    V32 squares = hn::Zero(d);
    for_each_vector(row, cols, 0.0f, [&](V32 v) HWY_ATTR {
      const V32 scaled = hn::Mul(v, scale);
      squares = hn::MulAdd(scaled, scaled, squares);
    });
    // Divided by, not multiplied with its reciprocal: a row with one entry gives 1 to the bit
    const V32 norm = hn::Set(d, std::sqrt(sum_lanes(squares)));
    size_t j = 0;
    for (; j + lanes <= cols; j += lanes)
      hn::StoreU(hn::Div(hn::Mul(hn::LoadU(d, row + j), scale), norm), d, unit + j);
    if (j == cols) continue;
    hn::Store(hn::Div(hn::Mul(load_tail(d, row + j, cols - j, 0.0f), scale), norm), d, last);
    std::memcpy(unit + j, last, (cols - j) * sizeof(float));
  }
}

/// What a row has for which none is selected.
constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

void RowDotSelected(const float* x, size_t stride, size_t rows, size_t cols, const float* b,
                    size_t b_stride, const std::int64_t* selected, float* out) {
  const F32 d;
  for (size_t i = 0; i < rows; ++i) {
    if (selected[i] < 0) {
      out[i] = kNone;
      continue;
    }
    const float* other = b + static_cast<size_t>(selected[i]) * b_stride;
    V32 sum = hn::Zero(d), poison = hn::Zero(d);
    for_each_vector_pair(x + i * stride, other, cols, 0.0f, [&](V32 u, V32 v) HWY_ATTR {
      sum = hn::MulAdd(u, v, sum);
      poison = add_poison(poison, u);
    });
    out[i] = sum_lanes(sum) + sum_lanes(poison);
  }
}

void RowSquaredDistanceSelected(const float* x, size_t stride, size_t rows, size_t cols,
                                const float* b, size_t b_stride, const Index* selected,
                                float* out) {
  const F32 d;
  for (size_t i = 0; i < rows; ++i) {
    if (selected[i] < 0) {
      out[i] = kNone;
      continue;
    }
    const float* other = b + static_cast<size_t>(selected[i]) * b_stride;
    V32 sum = hn::Zero(d), poison = hn::Zero(d);
    for_each_vector_pair(x + i * stride, other, cols, 0.0f, [&](V32 u, V32 v) HWY_ATTR {
      const V32 difference = hn::Sub(u, v);
      sum = hn::MulAdd(difference, difference, sum);
      poison = add_poison(poison, u);
    });
    out[i] = sum_lanes(sum) + sum_lanes(poison);
  }
}

void RowSumOfAbsolutes(const float* x, size_t stride, size_t rows, size_t cols, float* out) {
  const F32 d;
  for (size_t i = 0; i < rows; ++i) {
    V32 sum = hn::Zero(d), poison = hn::Zero(d);
    for_each_vector(x + i * stride, cols, 0.0f, [&](V32 u) HWY_ATTR {
      sum = hn::Add(sum, hn::Abs(u));
      poison = add_poison(poison, u);
    });
    out[i] = sum_lanes(sum) + sum_lanes(poison);
  }
}

void RowAbsoluteDistanceSelected(const float* x, size_t stride, size_t rows, size_t cols,
                                 const float* b, size_t b_stride, const Index* selected,
                                 float* out) {
  const F32 d;
  for (size_t i = 0; i < rows; ++i) {
    if (selected[i] < 0) {
      out[i] = kNone;
      continue;
    }
    const float* other = b + static_cast<size_t>(selected[i]) * b_stride;
    V32 sum = hn::Zero(d), poison = hn::Zero(d);
    for_each_vector_pair(x + i * stride, other, cols, 0.0f, [&](V32 u, V32 v) HWY_ATTR {
      sum = hn::Add(sum, hn::AbsDiff(u, v));
      poison = add_poison(poison, u);
    });
    out[i] = sum_lanes(sum) + sum_lanes(poison);
  }
}

/// True if a row holds NaN or infinity.
bool IsPoisoned(const float* row, size_t cols) {
  const F32 d;
  V32 poison = hn::Zero(d);
  for_each_vector(row, cols, 0.0f, [&](V32 v) HWY_ATTR { poison = add_poison(poison, v); });
  return sum_lanes(poison) != 0.0f;
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/bodies/norms.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(RowNorms);
HWY_EXPORT(NormalizeRows);
HWY_EXPORT(RowDotSelected);
HWY_EXPORT(RowSquaredDistanceSelected);
HWY_EXPORT(RowSumOfAbsolutes);
HWY_EXPORT(RowAbsoluteDistanceSelected);
HWY_EXPORT(IsPoisoned);

namespace {

/// Checks a choice of one row of b for each row of x; not the rows themselves where a device has them.
template <class Integer>
void require_selection(const char* kernel, const MatrixView& x, const MatrixView& b,
                       std::span<const Integer> selected) {
  require_size(kernel, "selection", selected.size(), x.rows());
  if (b.cols() != x.cols())
    throw_invalid("{}: b has {} columns, expected {} as x has", kernel, b.cols(), x.cols());
  if (device_queue()) return;
  for (const Integer row : selected)
    if (row < -1 || row >= b.rows())
      throw_invalid("{}: selection has {}, expected [0, {}), or -1 for none", kernel, row,
                    b.rows());
}

/// The norms of the next orders, as many as the body takes.
template <int kOrders>
void run_row_norms(DeviceQueue& queue, const MatrixView& x, std::span<const double> orders,
                   float* out, Index stride) {
  bodies::RowNorms<kOrders> body{rows_in(x), static_cast<int>(orders.size()), {}, out, stride};
  std::ranges::copy(orders, body.orders);
  queue.run(body, x.rows());
}

}  // namespace

void row_norms(const MatrixView& x, std::span<const double> orders, MatrixMap out) {
  for (const double order : orders)
    if (!(order > 0)) throw_invalid("row_norms: order has {}, expected above 0", order);
  require_shape("row_norms", out, x.rows(), std::ssize(orders));
  const Rows r = rows_of("row_norms", x, static_cast<size_t>(x.rows()));
  if (DeviceQueue* const queue = device_queue()) {
    constexpr std::size_t kAtOnce = 8;
    for (std::size_t k = 0; k < orders.size(); k += kAtOnce) {
      const auto some = orders.subspan(k, std::min(kAtOnce, orders.size() - k));
      if (some.size() == 1)
        run_row_norms<1>(*queue, x, some, out.data() + k, out.cols());
      else
        run_row_norms<kAtOnce>(*queue, x, some, out.data() + k, out.cols());
    }
    return;
  }
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowNorms)
  (r.data, r.stride, r.rows, r.cols, orders.data(), orders.size(), out.data());
}

void row_norms(const MatrixView& x, std::span<const double> orders, Matrix& out) {
  out.resize(x.rows(), std::ssize(orders));
  row_norms(x, orders, map_of(out));
}

void normalize_rows(const MatrixView& x, MatrixMap out) {
  require_shape("normalize_rows", out, x.rows(), x.cols());
  const Rows r = rows_of("normalize_rows", x, static_cast<size_t>(x.rows()));
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::NormalizeRows{rows_in(x), rows_out(out)}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(NormalizeRows)(r.data, r.stride, r.rows, r.cols, out.data());
}

void normalize_rows(const MatrixView& x, Matrix& out) {
  out.resize(x.rows(), x.cols());
  normalize_rows(x, map_of(out));
}

void row_dot_selected(const MatrixView& x, const MatrixView& b, Labels labels,
                      std::span<float> out) {
  const Rows r = rows_of("row_dot_selected", x, out.size());
  require_selection<std::int64_t>("row_dot_selected", x, b, labels);
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowDotSelected{rows_in(x), placed(b), labels.data(), out.data()},
                      x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowDotSelected)
  (r.data, r.stride, r.rows, r.cols, b.data(), static_cast<size_t>(b.outerStride()), labels.data(),
   out.data());
}

void row_squared_distance_selected(const MatrixView& x, const MatrixView& b,
                                   std::span<const Index> rows, std::span<float> out) {
  const Rows r = rows_of("row_squared_distance_selected", x, out.size());
  require_selection<Index>("row_squared_distance_selected", x, b, rows);
  if (DeviceQueue* const queue = device_queue())
    return queue->run(
        bodies::RowSquaredDistanceSelected{rows_in(x), placed(b), rows.data(), out.data()},
        x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowSquaredDistanceSelected)
  (r.data, r.stride, r.rows, r.cols, b.data(), static_cast<size_t>(b.outerStride()), rows.data(),
   out.data());
}

void row_sum_of_absolutes(const MatrixView& x, std::span<float> out) {
  const Rows r = rows_of("row_sum_of_absolutes", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowSumOfAbsolutes{rows_in(x), out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowSumOfAbsolutes)(r.data, r.stride, r.rows, r.cols, out.data());
}

void row_absolute_distance_selected(const MatrixView& x, const MatrixView& b,
                                    std::span<const Index> rows, std::span<float> out) {
  const Rows r = rows_of("row_absolute_distance_selected", x, out.size());
  require_selection<Index>("row_absolute_distance_selected", x, b, rows);
  if (DeviceQueue* const queue = device_queue())
    return queue->run(
        bodies::RowAbsoluteDistanceSelected{rows_in(x), placed(b), rows.data(), out.data()},
        x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowAbsoluteDistanceSelected)
  (r.data, r.stride, r.rows, r.cols, b.data(), static_cast<size_t>(b.outerStride()), rows.data(),
   out.data());
}

std::optional<std::pair<Index, Index>> find_nonfinite(const MatrixView& x) {
  ensure_simd_target();
  for (Index i = 0; i < x.rows(); ++i) {
    if (!HWY_DYNAMIC_DISPATCH(IsPoisoned)(x.row_data(i), static_cast<size_t>(x.cols()))) continue;
    for (Index j = 0; j < x.cols(); ++j)
      if (!std::isfinite(x(i, j))) return std::pair{i, j};
  }
  return std::nullopt;
}

}  // namespace ood::kernels
#endif
