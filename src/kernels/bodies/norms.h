/// Norms, dot products and distances of rows.
#pragma once

#include <cstdint>

#include "kernels/bodies/body.h"

namespace ood::kernels::bodies {

/// Something of the entries of a row, and 0 if they are finite, else NaN.
struct OfEntries {
  float value, poison;
};

/// The largest |x_j|.
template <class Lanes>
OOD_BODY OfEntries largest_absolute(const float* row, Index n, const Lanes& lanes) {
  return lanes.reduce(
      n, OfEntries{0, 0},
      [&](OfEntries& own, Index j) {
        own.value = larger(std::fabs(row[j]), own.value);
        own.poison += row[j] * 0.0f;
      },
      [](OfEntries& own, const OfEntries& other) {
        own.value = larger(other.value, own.value);
        own.poison += other.poison;
      });
}

/// A power of two that brings x > 0 into [1, 4), or as near as float32 has one.
OOD_BODY inline int shift_to_one(float x) { return larger(-126, smaller(-std::ilogb(x), 126)); }

/// Up to kOrders columns of norms.
template <int kOrders>
struct RowNorms {
  FloatRows x;
  int count;
  double orders[kOrders];
  float* out;  // of the first of the orders
  Index stride;

  struct Sums {
    float of[kOrders];
  };

  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    float* const norms = out + i * stride;
    const OfEntries max = largest_absolute(row, x.cols, lanes);
    if (max.value == 0.0f || max.poison != 0.0f) {  // NaN != 0
      lanes.each(count, [&](Index k) { norms[k] = max.poison; });
      return;
    }
    // |x| / max by two factors: a power of two, which is exact, and what is left of 1 / max, which
    // neither overflows nor underflows then
    const int shift = shift_to_one(max.value);
    const float scale = std::ldexp(1.0f, shift), reciprocal = 1.0f / std::ldexp(max.value, shift);
    bool need_log = false;
    for (int k = 0; k < count; ++k) need_log |= orders[k] != 1.0 && orders[k] != 2.0;
    const Sums sums = lanes.reduce(
        x.cols, Sums{},
        [&](Sums& own, Index j) {
          const float ratio = std::fabs(row[j]) * scale * reciprocal;
          const float log = need_log ? std::log2(ratio) : 0.0f;
          for (int k = 0; k < kOrders; ++k)
            if (k < count) own.of[k] += power(ratio, log, orders[k]);
        },
        [](Sums& own, const Sums& other) {
          for (int k = 0; k < kOrders; ++k) own.of[k] += other.of[k];
        });
    lanes.once([&] {
      for (int k = 0; k < kOrders; ++k)
        if (k < count)
          norms[k] = static_cast<float>(static_cast<double>(max.value) *
                                        root(static_cast<double>(sums.of[k]), orders[k]));
    });
  }

 private:
  OOD_BODY static float power(float ratio, float log, double order) {
    if (order == 1.0) return ratio;
    return order == 2.0 ? ratio * ratio : std::exp2(static_cast<float>(order) * log);
  }
  OOD_BODY static double root(double sum, double order) {
    if (order == 1.0) return sum;
    return order == 2.0 ? std::sqrt(sum) : std::pow(sum, 1.0 / order);
  }
};
using RowNorm = RowNorms<1>;  // as most ask for it: a sum, not eight, in each lane
using RowEightNorms = RowNorms<8>;

struct NormalizeRows {
  FloatRows x;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    float* const unit = out.row(i);
    const OfEntries max = largest_absolute(row, x.cols, lanes);
    if (max.value == 0.0f || max.poison != 0.0f) {  // NaN != 0
      lanes.each(x.cols, [&](Index j) { unit[j] = max.poison; });
      return;
    }
    // By a power of two, which is exact, the largest entry comes into [1, 4): squares neither
    // overflow nor underflow then
    const float scale = std::ldexp(1.0f, shift_to_one(max.value));
    const float norm = std::sqrt(lanes.template sum<float>(x.cols, [&](Index j) {
      const float scaled = row[j] * scale;
      return scaled * scaled;
    }));
    // Divided by, not multiplied with its reciprocal: a row with one entry gives 1 to the bit
    lanes.each(x.cols, [&](Index j) { unit[j] = row[j] * scale / norm; });
  }
};

OOD_BODY inline OfEntries& operator+=(OfEntries& own, const OfEntries& other) {
  own.value += other.value;
  own.poison += other.poison;
  return own;
}

struct RowSumOfAbsolutes {
  FloatRows x;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const OfEntries sum = lanes.reduce(
        x.cols, OfEntries{0, 0},
        [&](OfEntries& own, Index j) {
          own += {std::fabs(row[j]), row[j] * 0.0f};
        },
        [](OfEntries& own, const OfEntries& other) { own += other; });
    lanes.once([&] { out[i] = sum.value + sum.poison; });
  }
};

struct Product {
  OOD_BODY static float of(float a, float b) { return a * b; }
};
struct SquaredDifference {
  OOD_BODY static float of(float a, float b) { return (a - b) * (a - b); }
};
struct AbsoluteDifference {
  OOD_BODY static float of(float a, float b) { return std::fabs(a - b); }
};

/// Sums of terms of x_i and the row of b that is selected for it.
template <class Term, class Integer>
struct RowSelected {
  FloatRows x, b;
  const Integer* selected;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    if (selected[i] < 0) {
      lanes.once([&] { out[i] = kNaN; });
      return;
    }
    const float *const row = x.row(i), *const other_row = b.row(selected[i]);
    const OfEntries sum = lanes.reduce(
        x.cols, OfEntries{0, 0},
        [&](OfEntries& own, Index j) {
          own += {Term::of(row[j], other_row[j]), row[j] * 0.0f};
        },
        [](OfEntries& own, const OfEntries& other) { own += other; });
    lanes.once([&] { out[i] = sum.value + sum.poison; });
  }
};
using RowDotSelected = RowSelected<Product, std::int64_t>;
using RowSquaredDistanceSelected = RowSelected<SquaredDifference, Index>;
using RowAbsoluteDistanceSelected = RowSelected<AbsoluteDifference, Index>;

}  // namespace ood::kernels::bodies

#define OOD_NORM_BODIES(X)      \
  X(RowNorm)                    \
  X(RowEightNorms)              \
  X(NormalizeRows)              \
  X(RowSumOfAbsolutes)          \
  X(RowDotSelected)             \
  X(RowSquaredDistanceSelected) \
  X(RowAbsoluteDistanceSelected)
