/// Row reductions of logits.
#pragma once

#include "kernels/bodies/body.h"

namespace ood::kernels::bodies {

// --- Selection ---------------------------------------------------------------------------------

/// The whole number that is as large among whole numbers as a finite t is among float32, 0 for both
/// zeros; and back.
OOD_BODY inline std::uint32_t order_of(float t) {
  const auto bits = __builtin_bit_cast(std::uint32_t, t);
  return bits >> 31 == 0 ? bits + 0x80000000u : 0u - bits;
}
OOD_BODY inline float float_of(std::uint32_t order) {
  return __builtin_bit_cast(float, order >> 31 != 0 ? order - 0x80000000u : 0u - order);
}

/// How many keys are not below low + step, low + 2 step, ..., low + 7 step.
struct EighthCounts {
  std::int32_t at[7] = {};
};

/// The k-th largest of the finite numbers key(j), j in [0, n), 1 <= k <= n: the greatest t that k
/// keys are not below. Three bits of its order() in a pass over the keys, from the highest; one
/// more pass ends it where just k keys are left above. Exact.
template <class Lanes, class Key>
OOD_BODY float kth_largest(const Lanes& lanes, Index n, Index k, Key key) {
  std::uint32_t low = 0;
  for (int shift = 29;; shift = shift > 3 ? shift - 3 : 0) {
    const EighthCounts counts = lanes.reduce(
        n, EighthCounts(),
        [&](EighthCounts& own, Index j) {
          const std::uint32_t order = order_of(key(j));
          for (std::uint32_t i = 0; i < 7; ++i) own.at[i] += order >= low + ((i + 1) << shift);
        },
        [](EighthCounts& own, const EighthCounts& other) {
          for (int i = 0; i < 7; ++i) own.at[i] += other.at[i];
        });
    std::uint32_t steps = 0;
    bool just_k = false;
    for (int i = 0; i < 7; ++i) {
      if (counts.at[i] >= k) ++steps;
      if (counts.at[i] == k) just_k = true;
    }
    low += steps << shift;
    if (shift == 0) return float_of(low);
    if (just_k) break;
  }
  return -lanes.template max<float>(n, -kInfinity, [&](Index j) {
    const float t = key(j);
    return order_of(t) >= low ? -t : -kInfinity;
  });
}

// --- Softmax -----------------------------------------------------------------------------------

// Sums over a row's terms e_j = exp((x_j - max) / T) but that of one largest entry, whose e_j = 1.
// What `sum`, and `mass` = 1 + sum e_j, become where another entry is the largest: a = (max - that)
// / T <= 0, e = exp(a).

/// None.
struct Nothing {
  static constexpr float kOfNone = 0;
  template <class T>
  OOD_BODY static T moved(T, T, T, T) {
    return 0;
  }
};
/// sum e_j^2
struct Squares {
  static constexpr float kOfNone = -1;
  template <class T>
  OOD_BODY static T moved(T sum, T, T, T e) {
    return (sum + 1) * e * e;
  }
};
/// sum e_j (x_j - max) / T: negative terms only
struct Surprise {
  static constexpr float kOfNone = 0;
  template <class T>
  OOD_BODY static T moved(T sum, T mass, T a, T e) {
    return e > 0 ? e * (sum + mass * a) : T(0);  // a may be infinite
  }
};

/// Entries as seen from a largest one.
struct Seen {
  float max, terms,
      sum;  ///< terms = sum e_j but for that one; NaN where an entry is NaN or infinite

  template <class Sum>
  OOD_BODY static Seen none() {
    return {kLowest, -1, Sum::kOfNone};  // not even the one
  }
  OOD_BODY static Seen entry(float x) { return {x, x * 0.0f, 0}; }

  /// Both together.
  template <class Sum>
  OOD_BODY static Seen joined(const Seen& p, const Seen& q, float per_unit) {
    const bool swap = q.max > p.max;
    const Seen high = swap ? q : p, low = swap ? p : q;
    const float a = (low.max - high.max) * per_unit, e = std::exp(a), mass = low.terms + 1;
    return {high.max, high.terms + mass * e, high.sum + Sum::moved(low.sum, mass, a, e)};
  }
};

/// The entries of a row that are below `limit`, all where it is NaN, in one pass: each is weighed
/// against the largest that its lane has met. Numbers move down only, so each exponent is a sum of
/// numbers of one sign, as accurate as the difference that it stands for.
template <class Sum, class Lanes>
OOD_BODY Seen seen(const Lanes& lanes, const float* row, Index n, float temperature, float limit) {
  const float per_unit = 1.0f / temperature;
  return lanes.reduce(
      n, Seen::none<Sum>(),
      [&](Seen& own, Index j) {
        if (!(row[j] >= limit)) own = Seen::joined<Sum>(own, Seen::entry(row[j]), per_unit);
      },
      [&](Seen& own, const Seen& other) {  // the same to the bit whichever lane is `own`
        const bool less = own.max == other.max && own.terms < other.terms;
        own = less ? Seen::joined<Sum>(other, own, per_unit)
                   : Seen::joined<Sum>(own, other, per_unit);
      });
}

/// softmax(x / T) of a row, seen from its largest entry: p_max = 1 / (1 + rest), with no
/// cancellation. Where the largest is so far above the others that their terms would underflow,
/// those are summed relative to the largest of them, at `shift` from it.
struct Softmax {
  float max;
  double shift;  ///< what the terms were summed relative to: <= 0
  double terms;  ///< NaN where an entry is NaN or infinite
  double sum;    ///< of what Sum says, relative to the largest entry

  OOD_BODY double rest() const { return shift == 0 ? terms : terms * std::exp(shift); }
  OOD_BODY double log_rest() const { return shift + std::log(terms); }
  /// log p_j = (x_j - max) / T - log_sum()
  OOD_BODY double log_sum() const { return std::log1p(rest()); }
};

template <class Sum, class Lanes>
OOD_BODY Softmax softmax(const Lanes& lanes, const float* row, Index n, float temperature) {
  const Seen all = seen<Sum>(lanes, row, n, temperature, kNaN);
  if (n == 1 || !(all.terms < 0x1p-60f)) return {all.max, 0, all.terms, all.sum};
  const Seen others = seen<Sum>(lanes, row, n, temperature, all.max);
  const double shift = (static_cast<double>(others.max) - static_cast<double>(all.max)) /
                       static_cast<double>(temperature);
  const double mass = static_cast<double>(others.terms) + 1;
  return {all.max, shift, mass,
          Sum::moved(static_cast<double>(others.sum), mass, shift, std::exp(shift))};
}

// --- Bodies ------------------------------------------------------------------------------------

/// The largest entry and where it is first; poison is 0, or NaN if an entry is NaN or infinite.
struct Largest {
  float max, poison;
  Index at;
};

template <class Lanes>
OOD_BODY Largest largest(const Lanes& lanes, const float* row, Index n) {
  return lanes.reduce(
      n, Largest{-kInfinity, 0, n},
      [&](Largest& own, Index j) {
        own.poison += row[j] * 0.0f;
        if (row[j] > own.max) {
          own.max = row[j];
          own.at = j;
        }
      },
      [](Largest& own, const Largest& other) {
        own.poison += other.poison;
        if (other.max > own.max || (other.max == own.max && other.at < own.at)) {
          own.max = other.max;
          own.at = other.at;
        }
      });
}

struct RowMax {
  FloatRows x;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Largest found = largest(lanes, x.row(i), x.cols);
    lanes.once([&] { out[i] = found.max + found.poison; });
  }
};

struct RowArgmax {
  FloatRows x;
  Index* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Largest found = largest(lanes, x.row(i), x.cols);
    lanes.once([&] { out[i] = found.poison == 0 ? found.at : -1; });
  }
};

struct RowLogSumExp {
  FloatRows x;
  float temperature;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Seen all = seen<Nothing>(lanes, x.row(i), x.cols, temperature, kNaN);
    lanes.once([&] {
      out[i] = static_cast<float>(static_cast<double>(all.max) +
                                  static_cast<double>(temperature) *
                                      std::log1p(static_cast<double>(all.terms)));
    });
  }
};

struct RowLogMaxProbability {
  FloatRows x;
  float temperature;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Softmax p = softmax<Nothing>(lanes, x.row(i), x.cols, temperature);
    lanes.once([&] { out[i] = static_cast<float>(-p.log_sum()); });
  }
};

struct RowLogOdds {
  FloatRows x;
  float temperature;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Softmax p = softmax<Nothing>(lanes, x.row(i), x.cols, temperature);
    lanes.once([&] { out[i] = static_cast<float>(-p.log_rest()); });
  }
};

struct RowDistanceFromUniform {
  FloatRows x;
  float temperature;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const Largest top = largest(lanes, row, x.cols);
    // e_j - 1 keeps its relative accuracy where p is nearly uniform
    const float per_unit = 1.0f / temperature;
    const double n = static_cast<double>(x.cols);
    const double total = static_cast<double>(lanes.template sum<float>(
        x.cols, [&](Index j) { return std::expm1((row[j] - top.max) * per_unit); }));
    const float mean = static_cast<float>(total / n);
    const float away = lanes.template sum<float>(x.cols, [&](Index j) {
      return std::fabs(std::expm1((row[j] - top.max) * per_unit) - mean);
    });
    lanes.once(
        [&] { out[i] = static_cast<float>(static_cast<double>(away) / (n + total)) + top.poison; });
  }
};

struct RowNegativeGini {
  FloatRows x;
  float temperature;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Softmax p = softmax<Squares>(lanes, x.row(i), x.cols, temperature);
    lanes.once([&] {
      // 1 - sum p^2 = ((1 + rest)^2 - 1 - squares) / (1 + rest)^2, squares <= rest: no cancellation
      const double rest = p.rest(), all = 1.0 + rest;
      out[i] = static_cast<float>(-(rest * (2.0 + rest) - p.sum) / (all * all));
    });
  }
};

struct RowDivergenceFromUniform {
  FloatRows x;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const Seen all = seen<Nothing>(lanes, row, x.cols, 1.0f, kNaN);
    // -sum log p / d = sum (max - x) / d + log(1 + rest); halves, as max - x may overflow
    const float half = 0.5f * all.max, share = 1.0f / static_cast<float>(x.cols);
    const float below =
        lanes.template sum<float>(x.cols, [&](Index j) { return (half - 0.5f * row[j]) * share; });
    lanes.once([&] {
      const double divergence = 2.0 * static_cast<double>(below) +
                                std::log1p(static_cast<double>(all.terms)) -
                                std::log(static_cast<double>(x.cols));
      out[i] = static_cast<float>(larger(0.0, divergence));  // NaN stays
    });
  }
};

struct RowNegativeEntropy {
  FloatRows x;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Softmax p = softmax<Surprise>(lanes, x.row(i), x.cols, 1.0f);
    // sum p log p = sum e (x - max) / S - log S, S = 1 + rest: two negative terms
    lanes.once([&] { out[i] = static_cast<float>(p.sum / (1.0 + p.rest()) - p.log_sum()); });
  }
};

struct RowGeneralizedEntropy {
  FloatRows x;
  float gamma;
  Index top;
  float* out;

  /// (p (1 - p))^gamma of an entry x. One largest apart, p <= 1/2.
  OOD_BODY float term(float v, float max, float log_sum, float of_max) const {
    if (v == max) return of_max;
    const float log_p = (v - max) - log_sum;
    return std::exp(gamma * (log_p + std::log1p(-std::exp(log_p))));
  }

  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const Softmax p = softmax<Nothing>(lanes, row, x.cols, 1.0f);
    if (p.terms != p.terms) {
      lanes.once([&] { out[i] = kNaN; });
      return;
    }
    // of the largest, log(1 - p) = log(rest) - log S
    const float log_sum = static_cast<float>(p.log_sum());
    const float of_max = static_cast<float>(
        std::exp(static_cast<double>(gamma) * (p.log_rest() - 2.0 * p.log_sum())));
    const float least = top < x.cols
                            ? kth_largest(lanes, x.cols, top, [&](Index j) { return row[j]; })
                            : -kInfinity;
    const float sum = lanes.template sum<float>(x.cols, [&](Index j) {
      return row[j] > least ? term(row[j], p.max, log_sum, of_max) : 0.0f;
    });
    const Index above = lanes.count(x.cols, [&](Index j) { return row[j] > least; });
    const float rest =
        top < x.cols ? static_cast<float>(top - above) * term(least, p.max, log_sum, of_max) : 0.0f;
    lanes.once([&] { out[i] = -(sum + rest); });
  }
};

struct RowKthLargest {
  FloatRows x;
  Index k;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    float kth = lanes.poison(row, x.cols);
    if (kth == 0) kth = kth_largest(lanes, x.cols, k, [&](Index j) { return row[j]; });
    lanes.once([&] { out[i] = kth; });
  }
};

struct RowSumAbove {
  FloatRows x;
  const float* t;
  double* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const double limit = static_cast<double>(t[i]);
    const double sum = lanes.template sum<double>(x.cols, [&](Index j) {
      const double v = static_cast<double>(row[j]);
      return larger(v - limit, 0.0) + v * 0.0;
    });
    lanes.once([&] { out[i] = sum; });
  }
};

}  // namespace ood::kernels::bodies

#define OOD_ROW_BODIES(X)     \
  X(RowMax)                   \
  X(RowArgmax)                \
  X(RowLogSumExp)             \
  X(RowLogMaxProbability)     \
  X(RowLogOdds)               \
  X(RowDistanceFromUniform)   \
  X(RowNegativeGini)          \
  X(RowDivergenceFromUniform) \
  X(RowNegativeEntropy)       \
  X(RowGeneralizedEntropy)    \
  X(RowKthLargest)            \
  X(RowSumAbove)
