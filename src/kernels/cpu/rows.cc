// Row reductions of logits: max, log-sum-exp and the softmax scores.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rows.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/exp-inl.h"
#include "kernels/cpu/select-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr double kLog2E = 1.4426950408889634;

/// Vectors that are worked on at a time, so that what one has to wait for does not stop the others.
constexpr size_t kGroup = 4;

/// How far ahead entries are asked for, as a row is read: while exponentials are taken, the processor
/// would not read on by itself.
constexpr size_t kAhead = 4096;

/// Calls step(vectors) with arrays of kGroup vectors of a row of n entries, and of one for what is left,
/// the last one filled up with `fill`.
template <class Step>
HWY_INLINE void for_each_group(const float* row, size_t n, float fill, Step&& step) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + kGroup * lanes <= n; j += kGroup * lanes) {
    V32 x[kGroup];
    for (size_t k = 0; k < kGroup; ++k) {
      x[k] = hn::LoadU(d, row + j + k * lanes);
      hwy::Prefetch(row + j + k * lanes + kAhead);
    }
    step(x);
  }
  for (; j + lanes <= n; j += lanes) {
    V32 x[1] = {hn::LoadU(d, row + j)};
    step(x);
  }
  if (j == n) return;
  V32 x[1] = {load_tail(d, row + j, n - j, fill)};
  step(x);
}

/// How many entries fill up the last vector.
HWY_INLINE double filled_entries(size_t n) {
  const size_t lanes = hn::Lanes(F32());
  return static_cast<double>((lanes - n % lanes) % lanes);
}

struct RowMax {
  float max;     // over the finite entries, if there is another
  float poison;  // 0, or NaN if an entry is NaN or infinite
};

HWY_INLINE RowMax max_of_row(const float* row, size_t n) {
  const F32 d;
  V32 largest[kGroup], poison[kGroup];
  for (size_t k = 0; k < kGroup; ++k) {
    largest[k] = hn::Set(d, std::numeric_limits<float>::lowest());
    poison[k] = hn::Zero(d);
  }
  // the tail is filled with the row's first entry, which changes neither
  for_each_group(row, n, row[0], [&]<size_t N>(V32(&x)[N]) HWY_ATTR {
    for (size_t k = 0; k < N; ++k) {
      largest[k] = hn::Max(largest[k], x[k]);
      poison[k] = add_poison(poison[k], x[k]);
    }
  });
  for (size_t k = 1; k < kGroup; ++k) {
    largest[0] = hn::Max(largest[0], largest[k]);
    poison[0] = hn::Add(poison[0], poison[k]);
  }
  return {max_lanes(largest[0]), sum_lanes(poison[0])};
}

/// The largest entry below max of a row; -infinity if there is none.
HWY_INLINE float max_below(const float* row, size_t n, float max) {
  const F32 d;
  const V32 none = hn::Set(d, kLowest), limit = hn::Set(d, max);
  V32 largest = none;
  for_each_vector(row, n, max, [&](V32 x) HWY_ATTR {
    largest = hn::Max(largest, hn::IfThenElse(hn::Lt(x, limit), x, none));
  });
  return max_lanes(largest);
}

/// softmax(x / T) of a row, seen from its largest entry: p_max = 1 / (1 + rest), with no
/// cancellation. All entries but one largest are summed relative to a reference r, the largest entry,
/// or, where it is so far above the others that these would underflow, the largest of the others.
struct Softmax {
  float max;
  float poison;
  double shift = 0;  // (r - max) / T
  double terms = 0;  // sum of e_j = exp((x_j - r) / T)
  double weighted =
      0;  // sum of what weigh() takes of e_j, x_j - r, x_j and max, over entries below max
  double others = 0;  // the largest entries there are but one: e_j = 1

  double rest() const { return shift == 0 ? terms : terms * std::exp(shift); }
  double log_rest() const { return shift + std::log(terms); }
  /// log p_j = (x_j - max) / T - log_sum()
  double log_sum() const {
    const double r = rest();
    return r < 0x1p-20 ? r * (1.0 - 0.5 * r) : std::log(1.0 + r);  // log1p, and faster
  }
};

template <class Weigh>
HWY_INLINE Softmax softmax_of_row(const float* row, size_t n, float temperature, Weigh&& weigh) {
  const F32 d;
  const RowMax seen = max_of_row(row, n);
  const float largest = seen.max, poison = seen.poison;
  Softmax p{.max = largest, .poison = poison};
  if (n == 1 || poison != 0.0f) return p;  // NaN != 0
  const V32 max = hn::Set(d, largest), one = hn::Set(d, 1.0f);
  const ScaledExp2 exp(kLog2E / static_cast<double>(temperature));
  const auto add_up = [&](float reference) HWY_ATTR {
    const V32 from = hn::Set(d, reference);
    V32 sum = hn::Zero(d), weighted = hn::Zero(d), equal = hn::Zero(d);
    for_each_group(row, n, largest, [&]<size_t N>(V32(&x)[N]) HWY_ATTR {
      V32 above[N], e[N];
      for (size_t k = 0; k < N; ++k) above[k] = hn::Sub(x[k], from);
      exp.apply(above, e);
      for (size_t k = 0; k < N; ++k) {
        const auto below = hn::Lt(x[k], max);
        e[k] = hn::IfThenElseZero(below, e[k]);
        equal = hn::Add(equal, hn::IfThenZeroElse(below, one));
        sum = hn::Add(sum, e[k]);
        weighted = weigh(weighted, e[k], above[k], x[k], max);
      }
    });
    p.others = static_cast<double>(sum_lanes(equal)) - filled_entries(n) - 1.0;
    p.terms = static_cast<double>(sum_lanes(sum)) + p.others;
    p.weighted = static_cast<double>(sum_lanes(weighted));
  };
  add_up(largest);
  if (p.terms < 0x1p-60) {
    const float next = max_below(row, n, largest);
    p.shift = (static_cast<double>(next) - static_cast<double>(largest)) /
              static_cast<double>(temperature);
    add_up(next);
  }
  return p;
}
HWY_INLINE Softmax softmax_of_row(const float* row, size_t n, float temperature = 1.0f) {
  return softmax_of_row(row, n, temperature,
                        [](V32 sum, V32, V32, V32, V32) HWY_ATTR { return sum; });
}

void RowMaxAll(const float* x, size_t stride, size_t rows, size_t cols, float* out) {
  for (size_t i = 0; i < rows; ++i) {
    const auto [max, poison] = max_of_row(x + i * stride, cols);
    out[i] = max + poison;
  }
}

void RowLogSumExp(const float* x, size_t stride, size_t rows, size_t cols, float temperature,
                  float* out) {
  const F32 d;
  const ScaledExp2 exp(kLog2E / static_cast<double>(temperature));
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const auto [largest, poison] = max_of_row(row, cols);
    const V32 max = hn::Set(d, largest);
    V32 sum[kGroup];
    for (size_t k = 0; k < kGroup; ++k) sum[k] = hn::Zero(d);
    for_each_group(row, cols, kLowest, [&]<size_t N>(V32(&v)[N]) HWY_ATTR {
      V32 e[N];
      for (size_t k = 0; k < N; ++k) v[k] = hn::Sub(v[k], max);
      exp.apply(v, e);
      for (size_t k = 0; k < N; ++k) sum[k] = hn::Add(sum[k], e[k]);
    });
    for (size_t k = 1; k < kGroup; ++k) sum[0] = hn::Add(sum[0], sum[k]);
    out[i] = static_cast<float>(static_cast<double>(largest) +
                                static_cast<double>(temperature) *
                                    std::log(static_cast<double>(sum_lanes(sum[0])))) +
             poison;
  }
}

void RowLogMaxProbability(const float* x, size_t stride, size_t rows, size_t cols,
                          float temperature, float* out) {
  for (size_t i = 0; i < rows; ++i) {
    const Softmax p = softmax_of_row(x + i * stride, cols, temperature);
    out[i] = static_cast<float>(-p.log_sum()) + p.poison;
  }
}

void RowLogOdds(const float* x, size_t stride, size_t rows, size_t cols, float temperature,
                float* out) {
  for (size_t i = 0; i < rows; ++i) {
    const Softmax p = softmax_of_row(x + i * stride, cols, temperature);
    out[i] = static_cast<float>(-p.log_rest()) + p.poison;
  }
}

void RowDistanceFromUniform(const float* x, size_t stride, size_t rows, size_t cols,
                            float temperature, float* out) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const ScaledExp2 exp(kLog2E / static_cast<double>(temperature));
  Scratch scratch;
  std::pmr::vector<float> terms(cols + lanes, &scratch);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const RowMax seen = max_of_row(row, cols);
    const float largest = seen.max, poison = seen.poison;
    const V32 max = hn::Set(d, largest);
    V32 sum = hn::Zero(d), away = hn::Zero(d);
    float* to = terms.data();
    // t_j = e_j - 1, which keeps its relative accuracy where p is nearly uniform
    for_each_group(row, cols, largest, [&]<size_t N>(V32(&v)[N]) HWY_ATTR {
      V32 t[N];
      for (size_t k = 0; k < N; ++k) v[k] = hn::Sub(v[k], max);
      exp.apply<true>(v, t);
      for (size_t k = 0; k < N; ++k) {
        hn::StoreU(t[k], d, to);
        to += lanes;
        sum = hn::Add(sum, t[k]);
      }
    });
    const double total = static_cast<double>(sum_lanes(sum)), n = static_cast<double>(cols);
    const float mean = static_cast<float>(total / n);
    const V32 middle = hn::Set(d, mean);
    for_each_vector(terms.data(), cols, mean,
                    [&](V32 t) HWY_ATTR { away = hn::Add(away, hn::Abs(hn::Sub(t, middle))); });
    out[i] = static_cast<float>(static_cast<double>(sum_lanes(away)) / (n + total)) + poison;
  }
}

void RowKthLargest(const float* x, size_t stride, size_t rows, size_t cols, size_t k, float* out) {
  Scratch scratch;
  std::pmr::vector<float> room(room_to_select(cols), &scratch);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const float poison = max_of_row(row, cols).poison;
    out[i] = poison == 0.0f ? kth_largest_of_row(row, cols, k, room.data()) : poison;
  }
}

void RowSumAbove(const float* x, size_t stride, size_t rows, size_t cols, const float* t,
                 double* out) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> half;
  const size_t lanes = hn::Lanes(dd);
  const auto zero = hn::Zero(dd);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const auto limit = hn::Set(dd, static_cast<double>(t[i]));
    auto sum = zero, other = zero, poison = zero;
    const auto above = [&](auto v) HWY_ATTR {
      const auto wide = hn::PromoteTo(dd, v);
      poison = hn::MulAdd(wide, zero, poison);
      return hn::Max(hn::Sub(wide, limit), zero);
    };
    size_t j = 0;
    for (; j + 2 * lanes <= cols; j += 2 * lanes) {
      sum = hn::Add(sum, above(hn::LoadU(half, row + j)));
      other = hn::Add(other, above(hn::LoadU(half, row + j + lanes)));
    }
    for (; j + lanes <= cols; j += lanes) sum = hn::Add(sum, above(hn::LoadU(half, row + j)));
    if (j < cols) sum = hn::Add(sum, above(load_tail(half, row + j, cols - j, t[i])));
    out[i] = hn::GetLane(hn::SumOfLanes(dd, hn::Add(hn::Add(sum, other), poison)));
  }
}

void RowNegativeGini(const float* x, size_t stride, size_t rows, size_t cols, float temperature,
                     float* out) {
  for (size_t i = 0; i < rows; ++i) {
    const Softmax p = softmax_of_row(x + i * stride, cols, temperature,
                                     [](V32 sum, V32 e, V32, V32, V32)
                                         HWY_ATTR { return hn::MulAdd(e, e, sum); });
    // 1 - sum p^2 = ((1 + rest)^2 - 1 - squares) / (1 + rest)^2, squares <= rest: no cancellation
    const double squares = std::exp(2.0 * p.shift) * (p.weighted + p.others);
    const double rest = p.rest(), total = 1.0 + rest;
    const double gini = (rest * (2.0 + rest) - squares) / (total * total);
    out[i] = static_cast<float>(-gini) + p.poison;
  }
}

void RowDivergenceFromUniform(const float* x, size_t stride, size_t rows, size_t cols, float* out) {
  const F32 d;
  const V32 half = hn::Set(d, 0.5f), share = hn::Set(d, 1.0f / static_cast<float>(cols));
  for (size_t i = 0; i < rows; ++i) {
    // -sum log p / d = sum (max - x) / d + log(1 + rest); halves, as max - x may overflow
    const Softmax p =
        softmax_of_row(x + i * stride, cols, 1.0f, [&](V32 sum, V32, V32, V32 v, V32 max) HWY_ATTR {
          return hn::MulAdd(hn::NegMulAdd(half, v, hn::Mul(half, max)), share, sum);
        });
    const double divergence = 2.0 * p.weighted + p.log_sum() - std::log(static_cast<double>(cols));
    out[i] = static_cast<float>(std::max(divergence, 0.0)) + p.poison;
  }
}

void RowNegativeEntropy(const float* x, size_t stride, size_t rows, size_t cols, float* out) {
  const F32 d;
  for (size_t i = 0; i < rows; ++i) {
    const Softmax p = softmax_of_row(x + i * stride, cols, 1.0f,
                                     [&](V32 sum, V32 e, V32 above, V32, V32) HWY_ATTR {
                                       // where e is 0, it may be infinite
                                       return hn::MulAdd(e, hn::Min(above, hn::Zero(d)), sum);
                                     });
    // sum p log p = sum (e / S) (x - max - log S) = sum e (x - max) / S - log S: two negative terms
    const double sum =
        p.shift == 0 ? p.weighted : std::exp(p.shift) * (p.weighted + p.shift * p.terms);
    out[i] = static_cast<float>(sum / (1.0 + p.rest()) - p.log_sum()) + p.poison;
  }
}

void RowGeneralizedEntropy(const float* x, size_t stride, size_t rows, size_t cols, float gamma,
                           size_t top, float* out) {
  const F32 d;
  const ScaledExp2 exp2(1.0), power(static_cast<double>(gamma));
  const V32 per_nat = hn::Set(d, static_cast<float>(kLog2E)), one = hn::Set(d, 1.0f);
  const V32 least = hn::Set(d, -125.0f / gamma);
  const V32 lowest = hn::Set(d, std::numeric_limits<float>::lowest() / 2);
  const double filled = filled_entries(std::min(top, cols));
  Scratch scratch;
  std::pmr::vector<float> selected(
      top < cols ? std::max(top + hn::Lanes(d), room_to_select(cols)) : 0, &scratch);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const Softmax p = softmax_of_row(row, cols);
    const float* terms = row;
    if (top < cols && p.poison == 0.0f) {
      largest_of_row(row, cols, top, selected.data());
      terms = selected.data();
    }
    const double log_sum = p.log_sum();
    // One largest entry apart: there log(1 - p) = log(rest) - log S. Elsewhere p <= 1/2.
    const V32 max = hn::Set(d, p.max), log2_sum = hn::Set(d, static_cast<float>(kLog2E * log_sum));
    V32 sum = hn::Zero(d), equal = hn::Zero(d);
    for_each_group(terms, std::min(top, cols), p.max, [&]<size_t N>(V32(&v)[N]) HWY_ATTR {
      V32 log_p[N], q[N], log_pq[N], term[N];
      for (size_t k = 0; k < N; ++k)  // not below what float32 has
        log_p[k] = hn::MulSub(hn::Max(hn::Sub(v[k], max), lowest), per_nat, log2_sum);
      for (size_t k = 0; k < N; ++k) log_pq[k] = log_p[k];
      exp2.apply(log_p, q);  // p
      for (size_t k = 0; k < N; ++k) q[k] = log2_of(hn::Sub(one, q[k]));
      for (size_t k = 0; k < N; ++k) log_p[k] = log_pq[k] = hn::Add(log_pq[k], q[k]);
      power.apply(log_pq, term);
      for (size_t k = 0; k < N; ++k) {
        const auto below = hn::Lt(v[k], max);
        if (!hn::AllFalse(d, hn::And(below, hn::Lt(log_p[k], least))))  // underflows, in steps
          term[k] = hn::Exp(d, hn::Mul(log_p[k], hn::Set(d, gamma * 0.6931472f)));
        sum = hn::Add(sum, hn::IfThenElseZero(below, term[k]));
        equal = hn::Add(equal, hn::IfThenZeroElse(below, one));
      }
    });
    const double of_max = std::exp(gamma * (p.log_rest() - 2.0 * log_sum));
    out[i] = static_cast<float>(-(static_cast<double>(sum_lanes(sum)) +
                                  (static_cast<double>(sum_lanes(equal)) - filled) * of_max)) +
             p.poison;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/bodies/rows.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(RowMaxAll);
HWY_EXPORT(RowLogSumExp);
HWY_EXPORT(RowLogMaxProbability);
HWY_EXPORT(RowLogOdds);
HWY_EXPORT(RowDistanceFromUniform);
HWY_EXPORT(RowKthLargest);
HWY_EXPORT(RowSumAbove);
HWY_EXPORT(RowNegativeGini);
HWY_EXPORT(RowDivergenceFromUniform);
HWY_EXPORT(RowNegativeEntropy);
HWY_EXPORT(RowGeneralizedEntropy);

void row_max(const MatrixView& x, std::span<float> out) {
  const Rows r = rows_of("row_max", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowMax{rows_in(x), out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowMaxAll)(r.data, r.stride, r.rows, r.cols, out.data());
}

namespace {

void check_temperature(std::string_view kernel, float temperature) {
  if (!(temperature >= 1e-30f && temperature <= 1e30f))
    throw_invalid("{}: temperature has {}, expected 1e-30 to 1e30", kernel, temperature);
}

}  // namespace

void row_log_sum_exp(const MatrixView& x, float temperature, std::span<float> out) {
  check_temperature("row_log_sum_exp", temperature);
  const Rows r = rows_of("row_log_sum_exp", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowLogSumExp{rows_in(x), temperature, out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowLogSumExp)(r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_log_max_probability(const MatrixView& x, float temperature, std::span<float> out) {
  check_temperature("row_log_max_probability", temperature);
  const Rows r = rows_of("row_log_max_probability", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowLogMaxProbability{rows_in(x), temperature, out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowLogMaxProbability)
  (r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_log_odds(const MatrixView& x, float temperature, std::span<float> out) {
  check_temperature("row_log_odds", temperature);
  const Rows r = rows_of("row_log_odds", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowLogOdds{rows_in(x), temperature, out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowLogOdds)(r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_distance_from_uniform(const MatrixView& x, float temperature, std::span<float> out) {
  check_temperature("row_distance_from_uniform", temperature);
  const Rows r = rows_of("row_distance_from_uniform", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowDistanceFromUniform{rows_in(x), temperature, out.data()},
                      x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowDistanceFromUniform)
  (r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_kth_largest(const MatrixView& x, Index k, std::span<float> out) {
  const Rows r = rows_of("row_kth_largest", x, out.size());
  if (r.rows > 0 && (k < 1 || k > x.cols()))
    throw_invalid("row_kth_largest: k has {}, expected 1 to {}", k, x.cols());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowKthLargest{rows_in(x), k, out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowKthLargest)
  (r.data, r.stride, r.rows, r.cols, static_cast<size_t>(k), out.data());
}

void row_sum_above(const MatrixView& x, std::span<const float> t, std::span<double> out) {
  const Rows r = rows_of("row_sum_above", x, out.size());
  require_size("row_sum_above", "t", t.size(), x.rows());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowSumAbove{rows_in(x), t.data(), out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowSumAbove)(r.data, r.stride, r.rows, r.cols, t.data(), out.data());
}

void row_negative_gini(const MatrixView& x, float temperature, std::span<float> out) {
  check_temperature("row_negative_gini", temperature);
  const Rows r = rows_of("row_negative_gini", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowNegativeGini{rows_in(x), temperature, out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowNegativeGini)
  (r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_divergence_from_uniform(const MatrixView& x, std::span<float> out) {
  const Rows r = rows_of("row_divergence_from_uniform", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowDivergenceFromUniform{rows_in(x), out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowDivergenceFromUniform)(r.data, r.stride, r.rows, r.cols, out.data());
}

void row_negative_entropy(const MatrixView& x, std::span<float> out) {
  const Rows r = rows_of("row_negative_entropy", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowNegativeEntropy{rows_in(x), out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowNegativeEntropy)(r.data, r.stride, r.rows, r.cols, out.data());
}

void row_generalized_entropy(const MatrixView& x, float gamma, Index top, std::span<float> out) {
  if (!(gamma > 0)) throw_invalid("row_generalized_entropy: gamma has {}, expected above 0", gamma);
  if (top < 1) throw_invalid("row_generalized_entropy: top has {}, expected 1 or more", top);
  const Rows r = rows_of("row_generalized_entropy", x, out.size());
  if (DeviceQueue* const queue = device_queue())
    return queue->run(bodies::RowGeneralizedEntropy{rows_in(x), gamma, top, out.data()}, x.rows());
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(RowGeneralizedEntropy)
  (r.data, r.stride, r.rows, r.cols, gamma, static_cast<size_t>(top), out.data());
}

}  // namespace ood::kernels
#endif
