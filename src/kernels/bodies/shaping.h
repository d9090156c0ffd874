/// Shaped activations: ood/activation_shaping.h.
#pragma once

#include "kernels/bodies/rows.h"

namespace ood::kernels::bodies {

OOD_BODY inline Index kept_entries(Index dim, double percentile) {
  // nearbyint would obey the rounding mode of the thread
  const double share = static_cast<double>(dim) * percentile / 100;
  const double floor = std::floor(share);
  const bool up = share - floor > 0.5 || (share - floor == 0.5 && std::fmod(floor, 2.0) != 0);
  return larger<Index>(1, dim - static_cast<Index>(floor + (up ? 1 : 0)));
}

/// The bin of x, -1 outside of all. A difference and a quotient: no two compilers round these
/// differently.
OOD_BODY inline Index bin_of(float x, double left, double width, Index bins) {
  const double position = (static_cast<double>(x) - left) / width;
  const bool inside = position >= 0 && position < static_cast<double>(bins);
  return inside ? static_cast<Index>(position) : -1;
}

/// An entry below 0; row = -1 for none.
struct Negative {
  Index row, column;
  float value;
};

/// The rows of non_negative_rows. Entries below 0 become 0, or stay, with the column of the least of each row;
/// -1 where it is not below 0.
struct NonNegativeRows {
  FloatRows x;
  FloatRowsOut out;
  Index* columns;  ///< nullptr: entries below 0 become 0
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    const float poison = lanes.poison(from, x.cols);
    const bool cut = columns == nullptr;
    if (!cut) {
      const float least =
          -lanes.max(x.cols, 0.0f, [&](Index j) { return poison == 0.0f ? -from[j] : 0.0f; });
      const Index column = lanes.first(x.cols, [&](Index j) { return from[j] == least; });
      lanes.once([&] { columns[i] = least < 0 ? column : -1; });
    }
    lanes.each(x.cols, [&](Index j) {
      const float kept = cut && from[j] < 0.0f ? 0.0f : from[j];
      to[j] = poison == 0.0f ? kept : kNaN;
    });
  }
};

/// Of one row: the first of x.rows negative entries.
struct FirstNegative {
  FloatRows x;
  const Index* columns;
  Negative* out;
  template <class Lanes>
  OOD_BODY void operator()(Index, const Lanes& lanes) const {
    const Index i = lanes.first(x.rows, [&](Index row) { return columns[row] >= 0; });
    lanes.once([&] {
      *out = i < x.rows ? Negative{i, columns[i], x.row(i)[columns[i]]} : Negative{-1, -1, 0.0f};
    });
  }
};

struct RowSumRatios {
  FloatRows x;
  const Index* each;  ///< k of each row; nullptr: k of all
  Index k;
  double* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const Index kept = each != nullptr ? each[i] : k;
    if (kept < 1 || !(lanes.poison(row, x.cols) == 0.0f)) {
      lanes.once([&] { out[i] = static_cast<double>(kNaN); });
      return;
    }
    const double least = kth_largest(lanes, x.cols, kept, [&](Index j) { return row[j]; });
    const double above = lanes.template sum<double>(
        x.cols, [&](Index j) { return larger(static_cast<double>(row[j]) - least, 0.0); });
    const double all = lanes.template sum<double>(
        x.cols, [&](Index j) { return larger(static_cast<double>(row[j]), 0.0); });
    const double part = above + static_cast<double>(kept) * least;
    lanes.once([&] { out[i] = part > 0 ? all / part : 1; });
  }
};

/// The k largest entries of rows, of equal ones the first: what is above `least`, the k-th largest, and what
/// equals it before the column `end`. `least` is NaN for a row with NaN or infinity.
struct LargestEntries {
  const float* least;
  const Index* end;
  OOD_BODY bool hold(Index i, Index j, float x) const {
    return x > least[i] || (x == least[i] && j < end[i]);
  }
};

struct LargestEnds {
  FloatRows x;
  Index k;
  const float* least;
  Index* end;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const float t = least[i];
    Index begin = 0, until = x.cols;
    const Index reached = lanes.count(x.cols, [&](Index j) { return row[j] >= t; });
    if (reached > k) {  // the end is where so many ties are taken
      Index ties = k - lanes.count(x.cols, [&](Index j) { return row[j] > t; });
      while (until - begin > 1) {
        const Index middle = begin + (until - begin) / 2;
        const Index before =
            lanes.count(middle - begin, [&](Index j) { return row[begin + j] == t; });
        if (before >= ties) {
          until = middle;
        } else {
          begin = middle;
          ties -= before;
        }
      }
    }
    lanes.once([&] { end[i] = until; });
  }
};

struct KeepLargest {
  FloatRows x;
  LargestEntries largest;
  const double* ratios;  ///< nullptr: 0 for all
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    const float least = largest.least[i], none = least - least;  // NaN where the row has it
    const Index end = largest.end[i];
    const double factor = ratios != nullptr ? std::exp(ratios[i]) : 1;
    // a choice of factors, which a compiler can make vectors of
    lanes.each(end, [&](Index j) {
      const double own = from[j] >= least ? factor : 0;
      to[j] = static_cast<float>(static_cast<double>(from[j]) * own) + none;
    });
    lanes.each(x.cols - end, [&](Index after) {
      const Index j = end + after;
      const double own = from[j] > least ? factor : 0;
      to[j] = static_cast<float>(static_cast<double>(from[j]) * own) + none;
    });
  }
};

struct ShareAmongLargest {
  FloatRows x;
  Index k;
  LargestEntries largest;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    const float least = largest.least[i], none = least - least;  // NaN where the row has it
    const Index end = largest.end[i];
    const double sum =
        lanes.template sum<double>(x.cols, [&](Index j) { return static_cast<double>(from[j]); });
    const auto share = static_cast<float>(sum / static_cast<double>(k));
    lanes.each(end, [&](Index j) { to[j] = from[j] >= least ? share : none; });
    lanes.each(x.cols - end, [&](Index after) {
      const Index j = end + after;
      to[j] = from[j] > least ? share : none;
    });
  }
};

struct ScaleRows {
  FloatRows x;
  const double* ratios;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    const double factor = std::exp(ratios[i]);
    lanes.each(x.cols,
               [&](Index j) { to[j] = static_cast<float>(static_cast<double>(from[j]) * factor); });
  }
};

struct Square {
  const double* x;
  float* out;
  OOD_BODY void operator()(Index i) const { out[i] = static_cast<float>(x[i] * x[i]); }
};

struct RowShifts {
  FloatRows x, moved;
  LargestEntries levels, shifts;
  double weight;
  double* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float *const from = x.row(i), *const to = moved.row(i);
    // The terms have 24 bits: in float64 their sums are exact but for the smallest, in any order, so that the
    // rank of a row that was fitted is its own on each device.
    const double level = lanes.template sum<double>(x.cols, [&](Index j) {
      return levels.hold(i, j, from[j]) ? static_cast<double>(larger(to[j], 0.0f)) : 0.0;
    });
    const double shift = lanes.template sum<double>(x.cols, [&](Index j) {
      return shifts.hold(i, j, from[j])
                 ? std::fabs(static_cast<double>(from[j]) - static_cast<double>(to[j]))
                 : 0.0;
    });
    const float poison = lanes.poison(from, x.cols) + lanes.poison(to, x.cols);
    lanes.once([&] { out[i] = level + weight * shift + static_cast<double>(poison); });
  }
};

struct KeptByRank {
  const double* q;
  const double* sorted;
  Index count;
  double least, most;
  Index dim;
  Index* out;
  OOD_BODY void operator()(Index i) const {
    if (q[i] != q[i]) {
      out[i] = 0;
      return;
    }
    Index begin = 0, until = count;  // of the first that is above
    while (begin < until) {
      const Index middle = begin + (until - begin) / 2;
      if (sorted[middle] > q[i])
        until = middle;
      else
        begin = middle + 1;
    }
    const double above = 1 - static_cast<double>(begin) / static_cast<double>(count);
    out[i] = kept_entries(dim, least + above * (most - least));
  }
};

struct RectifyRows {
  FloatRows x;
  const double *low, *high;
  Index clip;  ///< 0: what is below l becomes 0; a bool would leave bytes between the members
  double lift;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    const double *const l = low, *const h = high;
    const double added = lift;
    const bool clipped = clip != 0;
    lanes.each(x.cols, [&](Index j) {
      const auto z = static_cast<double>(from[j]);
      const double floor = clipped ? l[j] : 0;
      const double kept = z < l[j] ? floor : z > h[j] ? h[j] : z + added;
      to[j] = static_cast<float>(kept) + 0.0f * from[j];  // 0 z: infinity makes the row NaN
    });
  }
};

struct WeighByBins {
  FloatRows x;
  double left, width;
  const double* weights;
  Index bins;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) {
      const Index k = bin_of(from[j], left, width, bins);
      const double weight = k >= 0 ? weights[k] : 0;
      to[j] = static_cast<float>(weight * static_cast<double>(from[j]));  // 0 infinity is NaN
    });
  }
};

struct ClipRows {
  FloatRows x;
  double threshold;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    const auto t = static_cast<float>(threshold);
    // 0 z: what is cut off may be infinite, and then the row is NaN
    lanes.each(x.cols, [&](Index j) { to[j] = smaller(from[j], t) + 0.0f * from[j]; });
  }
};

}  // namespace ood::kernels::bodies

#define OOD_SHAPING_BODIES(X) \
  X(NonNegativeRows)          \
  X(FirstNegative)            \
  X(RowSumRatios)             \
  X(LargestEnds)              \
  X(KeepLargest)              \
  X(ShareAmongLargest)        \
  X(ScaleRows)                \
  X(Square)                   \
  X(RowShifts)                \
  X(KeptByRank)               \
  X(RectifyRows)              \
  X(WeighByBins)              \
  X(ClipRows)
