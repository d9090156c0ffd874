// Row reductions of logits: max, log-sum-exp and the softmax scores.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rows.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include <algorithm>
#include <functional>

#include "kernels/cpu/vector-inl.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

struct RowMax {
  float max;     // over the finite entries, if there is another
  float poison;  // 0, or NaN if an entry is NaN or infinite
};

HWY_INLINE RowMax max_of_row(const float* row, size_t n) {
  const F32 d;
  V32 largest = hn::Set(d, std::numeric_limits<float>::lowest());
  V32 poison = hn::Zero(d);
  // the tail is filled with the row's first entry, which changes neither
  for_each_vector(row, n, row[0], [&](V32 x) HWY_ATTR {
    largest = hn::Max(largest, x);
    poison = add_poison(poison, x);
  });
  return {max_lanes(largest), sum_lanes(poison)};
}

/// softmax(x / T) of a row, seen from its largest entry: p_max = 1 / (1 + rest), with no
/// cancellation.
struct Softmax {
  float max;
  float next;  // the largest entry but one, which may be as large
  float poison;
  double log_rest;  // log of: sum over all but one largest entry of exp((x - max) / T)
  double rest;
  double log_sum;  // log(1 + rest): log p_j = (x_j - max) / T - log_sum
};

HWY_INLINE Softmax softmax_of_row(const float* row, size_t n, float temperature = 1.0f) {
  const F32 d;
  // The two largest entries of each lane, then of all: the rest is summed relative to the second,
  // so that it does not underflow however far the first is above it.
  V32 first = hn::Set(d, kLowest), second = first, poison = hn::Zero(d);
  const auto step = [&](V32 x, V32 checked) HWY_ATTR {
    second = hn::Max(second, hn::Min(first, x));
    first = hn::Max(first, x);
    poison = add_poison(poison, checked);
  };
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + lanes <= n; j += lanes) step(hn::LoadU(d, row + j), hn::LoadU(d, row + j));
  if (j < n) step(load_tail(d, row + j, n - j, kLowest), load_tail(d, row + j, n - j, row[0]));
  const float largest = max_lanes(first), bad = sum_lanes(poison);
  if (n == 1 || bad != 0.0f) return {largest, largest, bad, -HUGE_VAL, 0, 0};
  const V32 max = hn::Set(d, largest), one = hn::Set(d, 1.0f);
  const auto holds_max = hn::Eq(first, max);
  const float next = hn::CountTrue(d, holds_max) > 1
                         ? largest
                         : max_lanes(hn::IfThenElse(holds_max, second, first));
  const V32 reference = hn::Set(d, next), inverse = hn::Set(d, 1.0f / temperature);
  V32 sum = hn::Zero(d), equal = hn::Zero(d);
  for_each_vector(row, n, kLowest, [&](V32 x) HWY_ATTR {
    const auto below = hn::Lt(x, max);
    const V32 exponent = hn::Mul(hn::Sub(x, reference), inverse);
    sum = hn::Add(sum, hn::IfThenElseZero(below, hn::Exp(d, exponent)));
    equal = hn::Add(equal, hn::IfThenZeroElse(below, one));
  });
  const double terms = static_cast<double>(sum_lanes(sum)) + (sum_lanes(equal) - 1.0);
  const double log_rest = (static_cast<double>(next) - static_cast<double>(largest)) /
                              static_cast<double>(temperature) +
                          std::log(terms);
  const double rest = std::exp(log_rest);
  return {largest, next, bad, log_rest, rest, std::log1p(rest)};
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
  const V32 inverse = hn::Set(d, 1.0f / temperature);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const auto [largest, poison] = max_of_row(row, cols);
    const V32 max = hn::Set(d, largest);
    V32 sum = hn::Zero(d);
    for_each_vector(row, cols, kLowest, [&](V32 v) HWY_ATTR {
      sum = hn::Add(sum, hn::Exp(d, hn::Mul(hn::Sub(v, max), inverse)));
    });
    out[i] = static_cast<float>(static_cast<double>(largest) +
                                static_cast<double>(temperature) *
                                    std::log(static_cast<double>(sum_lanes(sum)))) +
             poison;
  }
}

void RowLogMaxProbability(const float* x, size_t stride, size_t rows, size_t cols,
                          float temperature, float* out) {
  for (size_t i = 0; i < rows; ++i) {
    const Softmax p = softmax_of_row(x + i * stride, cols, temperature);
    out[i] = static_cast<float>(-p.log_sum) + p.poison;
  }
}

void RowNegativeGini(const float* x, size_t stride, size_t rows, size_t cols, float temperature,
                     float* out) {
  const F32 d;
  const V32 inverse = hn::Set(d, 1.0f / temperature);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const Softmax p = softmax_of_row(row, cols, temperature);
    // Relative to the largest but one, for the reason that the rest is
    const V32 reference = hn::Set(d, p.next), max = hn::Set(d, p.max);
    V32 sum = hn::Zero(d), equal = hn::Zero(d);
    for_each_vector(row, cols, kLowest, [&](V32 v) HWY_ATTR {
      const auto below = hn::Lt(v, max);
      const V32 e = hn::Exp(d, hn::Mul(hn::Sub(v, reference), inverse));
      sum = hn::Add(sum, hn::IfThenElseZero(below, hn::Mul(e, e)));
      equal = hn::Add(equal, hn::IfThenZeroElse(below, hn::Set(d, 1.0f)));
    });
    // 1 - sum p^2 = ((1 + rest)^2 - 1 - squares) / (1 + rest)^2, squares <= rest: no cancellation
    const double below = (static_cast<double>(p.next) - static_cast<double>(p.max)) /
                         static_cast<double>(temperature);
    const double squares = std::exp(2.0 * below) * (static_cast<double>(sum_lanes(sum)) +
                                                    (static_cast<double>(sum_lanes(equal)) - 1.0));
    const double total = 1.0 + p.rest;
    const double gini = (p.rest * (2.0 + p.rest) - squares) / (total * total);
    out[i] = static_cast<float>(-gini) + p.poison;
  }
}

void RowDivergenceFromUniform(const float* x, size_t stride, size_t rows, size_t cols, float* out) {
  const F32 d;
  const V32 half = hn::Set(d, 0.5f), share = hn::Set(d, 1.0f / static_cast<float>(cols));
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const Softmax p = softmax_of_row(row, cols);
    // -sum log p / d = sum (max - x) / d + log(1 + rest); halves, as max - x may overflow
    const V32 max = hn::Set(d, 0.5f * p.max);
    V32 sum = hn::Zero(d);
    for_each_vector(row, cols, p.max, [&](V32 v) HWY_ATTR {
      sum = hn::MulAdd(hn::NegMulAdd(half, v, max), share, sum);
    });
    const double divergence =
        2.0 * static_cast<double>(sum_lanes(sum)) + p.log_sum - std::log(static_cast<double>(cols));
    out[i] = static_cast<float>(std::max(divergence, 0.0)) + p.poison;
  }
}

void RowNegativeEntropy(const float* x, size_t stride, size_t rows, size_t cols, float* out) {
  const F32 d;
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const Softmax p = softmax_of_row(row, cols);
    // sum p log p = sum (e / S) (x - max - log S) = sum e (x - max) / S - log S: two negative terms
    const V32 max = hn::Set(d, p.max);
    V32 sum = hn::Zero(d);
    for_each_vector(row, cols, p.max, [&](V32 v) HWY_ATTR {
      // exp is 0 from here down, and infinity times 0 would not be
      const V32 below = hn::Max(hn::Sub(v, max), hn::Set(d, -200.0f));
      sum = hn::MulAdd(hn::Exp(d, below), below, sum);
    });
    out[i] = static_cast<float>(static_cast<double>(sum_lanes(sum)) / (1.0 + p.rest) - p.log_sum) +
             p.poison;
  }
}

void RowGeneralizedEntropy(const float* x, size_t stride, size_t rows, size_t cols, float gamma,
                           size_t top, float* out) {
  const F32 d;
  const V32 power = hn::Set(d, gamma);
  Scratch scratch;
  std::pmr::vector<float> selected(top < cols ? cols : 0, &scratch);
  for (size_t i = 0; i < rows; ++i) {
    const float* row = x + i * stride;
    const Softmax p = softmax_of_row(row, cols);
    const float* terms = row;
    if (top < cols && p.poison == 0.0f) {
      std::copy_n(row, cols, selected.begin());
      std::nth_element(selected.begin(), selected.begin() + static_cast<std::ptrdiff_t>(top),
                       selected.end(), std::greater<>());
      terms = selected.data();
    }
    // One largest entry apart: there log(1 - p) = log(rest) - log S. Elsewhere p <= 1/2.
    const V32 max = hn::Set(d, p.max), log_sum = hn::Set(d, static_cast<float>(p.log_sum));
    V32 sum = hn::Zero(d), equal = hn::Zero(d);
    const auto term = [&](V32 log_p) HWY_ATTR {
      const V32 log_q = hn::Log1p(d, hn::Neg(hn::Exp(d, log_p)));
      return hn::Exp(d, hn::Mul(power, hn::Add(log_p, log_q)));
    };
    for_each_vector(terms, std::min(top, cols), kLowest, [&](V32 v) HWY_ATTR {
      const auto below = hn::Lt(v, max);
      const auto there = hn::Gt(v, hn::Set(d, kLowest));
      const V32 log_p = hn::Sub(hn::Sub(hn::IfThenElse(there, v, max), max), log_sum);
      sum = hn::Add(sum, hn::IfThenElseZero(hn::And(below, there), term(log_p)));
      equal = hn::Add(equal, hn::IfThenZeroElse(below, hn::Set(d, 1.0f)));
    });
    const double of_max = std::exp(gamma * (p.log_rest - 2.0 * p.log_sum));
    out[i] = static_cast<float>(-(static_cast<double>(sum_lanes(sum)) +
                                  static_cast<double>(sum_lanes(equal)) * of_max)) +
             p.poison;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/shapes.h"
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(RowMaxAll);
HWY_EXPORT(RowLogSumExp);
HWY_EXPORT(RowLogMaxProbability);
HWY_EXPORT(RowNegativeGini);
HWY_EXPORT(RowDivergenceFromUniform);
HWY_EXPORT(RowNegativeEntropy);
HWY_EXPORT(RowGeneralizedEntropy);

void row_max(const MatrixView& x, std::span<float> out) {
  ensure_simd_target();
  const Rows r = rows_of("row_max", x, out.size());
  HWY_DYNAMIC_DISPATCH(RowMaxAll)(r.data, r.stride, r.rows, r.cols, out.data());
}

namespace {

void check_temperature(std::string_view kernel, float temperature) {
  if (!(temperature >= 1e-30f && temperature <= 1e30f))
    throw_invalid("{}: temperature has {}, expected 1e-30 to 1e30", kernel, temperature);
}

}  // namespace

void row_log_sum_exp(const MatrixView& x, float temperature, std::span<float> out) {
  ensure_simd_target();
  check_temperature("row_log_sum_exp", temperature);
  const Rows r = rows_of("row_log_sum_exp", x, out.size());
  HWY_DYNAMIC_DISPATCH(RowLogSumExp)(r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_log_max_probability(const MatrixView& x, float temperature, std::span<float> out) {
  ensure_simd_target();
  check_temperature("row_log_max_probability", temperature);
  const Rows r = rows_of("row_log_max_probability", x, out.size());
  HWY_DYNAMIC_DISPATCH(RowLogMaxProbability)
  (r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_negative_gini(const MatrixView& x, float temperature, std::span<float> out) {
  ensure_simd_target();
  check_temperature("row_negative_gini", temperature);
  const Rows r = rows_of("row_negative_gini", x, out.size());
  HWY_DYNAMIC_DISPATCH(RowNegativeGini)
  (r.data, r.stride, r.rows, r.cols, temperature, out.data());
}

void row_divergence_from_uniform(const MatrixView& x, std::span<float> out) {
  ensure_simd_target();
  const Rows r = rows_of("row_divergence_from_uniform", x, out.size());
  HWY_DYNAMIC_DISPATCH(RowDivergenceFromUniform)(r.data, r.stride, r.rows, r.cols, out.data());
}

void row_negative_entropy(const MatrixView& x, std::span<float> out) {
  ensure_simd_target();
  const Rows r = rows_of("row_negative_entropy", x, out.size());
  HWY_DYNAMIC_DISPATCH(RowNegativeEntropy)(r.data, r.stride, r.rows, r.cols, out.data());
}

void row_generalized_entropy(const MatrixView& x, float gamma, Index top, std::span<float> out) {
  ensure_simd_target();
  if (!(gamma > 0)) throw_invalid("row_generalized_entropy: gamma has {}, expected above 0", gamma);
  if (top < 1) throw_invalid("row_generalized_entropy: top has {}, expected 1 or more", top);
  const Rows r = rows_of("row_generalized_entropy", x, out.size());
  HWY_DYNAMIC_DISPATCH(RowGeneralizedEntropy)
  (r.data, r.stride, r.rows, r.cols, gamma, static_cast<size_t>(top), out.data());
}

}  // namespace ood::kernels
#endif
