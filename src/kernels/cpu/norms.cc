// Norms, selected products and distances, and the search for what is not a number.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norms.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.h"
#include "ood/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

/// sum_j ratio_j^order over a row of ratios = |x| / max|x| and their logarithms.
HWY_INLINE double power_sum(const float* ratios, const float* logs, size_t n, double order) {
  const F32 d;
  V32 sum = hn::Zero(d);
  if (order == 2.0) {
    for_each_vector(ratios, n, 0.0f, [&](V32 r) HWY_ATTR { sum = hn::MulAdd(r, r, sum); });
  } else {
    const V32 power = hn::Set(d, static_cast<float>(order));
    for_each_vector_pair(ratios, logs, n, 0.0f, [&](V32 r, V32 log) HWY_ATTR {
      sum =
          hn::Add(sum, hn::IfThenElseZero(hn::Gt(r, hn::Zero(d)), hn::Exp(d, hn::Mul(power, log))));
    });
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
  std::vector<float> ratios(padded), logs(need_logs ? padded : 0);
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
    const V32 divisor = hn::Set(d, max);
    size_t j = 0;
    for_each_vector(row, cols, 0.0f, [&](V32 v) HWY_ATTR {
      const V32 ratio = hn::Div(hn::Abs(v), divisor);
      hn::StoreU(ratio, d, ratios.data() + j);
      if (need_logs) hn::StoreU(hn::Log(d, ratio), d, logs.data() + j);
      j += lanes;
    });
    for (size_t k = 0; k < count; ++k)
      out[i * count + k] = static_cast<float>(
          static_cast<double>(max) *
          std::pow(power_sum(ratios.data(), logs.data(), cols, orders[k]), 1.0 / orders[k]));
  }
}

void RowDotSelected(const float* x, size_t stride, size_t rows, size_t cols, const float* b,
                    size_t b_stride, const std::int64_t* selected, float* out) {
  const F32 d;
  for (size_t i = 0; i < rows; ++i) {
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
#include "kernels/cpu/shapes.h"
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(RowNorms);
HWY_EXPORT(RowDotSelected);
HWY_EXPORT(RowSquaredDistanceSelected);
HWY_EXPORT(IsPoisoned);

namespace {

/// Checks a choice of one row of b for each row of x.
template <class Integer>
void require_selection(const char* kernel, const MatrixView& x, const MatrixView& b,
                       std::span<const Integer> selected) {
  require_size(kernel, "selection", selected.size(), x.rows());
  if (b.cols() != x.cols())
    throw_invalid("{}: b has {} columns, expected {} as x has", kernel, b.cols(), x.cols());
  for (const Integer row : selected)
    if (row < 0 || row >= b.rows())
      throw_invalid("{}: selection has {}, expected [0, {})", kernel, row, b.rows());
}

}  // namespace

void row_norms(const MatrixView& x, std::span<const double> orders, Matrix& out) {
  ensure_simd_target();
  for (const double order : orders)
    if (!(order > 0)) throw_invalid("row_norms: order has {}, expected above 0", order);
  out.resize(x.rows(), static_cast<Index>(orders.size()));
  const Rows r = rows_of("row_norms", x, static_cast<size_t>(x.rows()));
  HWY_DYNAMIC_DISPATCH(RowNorms)
  (r.data, r.stride, r.rows, r.cols, orders.data(), orders.size(), out.data());
}

void row_dot_selected(const MatrixView& x, const MatrixView& b, Labels labels,
                      std::span<float> out) {
  ensure_simd_target();
  const Rows r = rows_of("row_dot_selected", x, out.size());
  require_selection<std::int64_t>("row_dot_selected", x, b, labels);
  HWY_DYNAMIC_DISPATCH(RowDotSelected)
  (r.data, r.stride, r.rows, r.cols, b.data(), static_cast<size_t>(b.outerStride()), labels.data(),
   out.data());
}

void row_squared_distance_selected(const MatrixView& x, const MatrixView& b,
                                   std::span<const Index> rows, std::span<float> out) {
  ensure_simd_target();
  const Rows r = rows_of("row_squared_distance_selected", x, out.size());
  require_selection<Index>("row_squared_distance_selected", x, b, rows);
  HWY_DYNAMIC_DISPATCH(RowSquaredDistanceSelected)
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
