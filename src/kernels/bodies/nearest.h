/// The nearest rows of a bank: what ood/neighbour_search.h does on a device. The proof that none is
/// missed is in neighbour_search.cc.
#pragma once

#include "kernels/bodies/rows.h"
#include "ood/neighbour_search.h"

namespace ood::kernels::bodies {

/// To 11 significant bits, ties to even, so that tensor units take it as it is; 0 for what is smaller
/// than a normal number.
OOD_BODY inline float to_tf32(float x) {
  auto bits = __builtin_bit_cast(std::uint32_t, x);
  bits = (bits + 0xfffu + ((bits >> 13) & 1u)) & 0xffffe000u;
  const auto rounded = __builtin_bit_cast(float, bits);
  return std::fabs(rounded) < 0x1p-126f ? 0.0f : rounded;
}

OOD_BODY inline float round_up(double value) {
  const auto near = static_cast<float>(value);
  return static_cast<double>(near) < value ? nextafterf(near, kInfinity) : near;
}

inline constexpr double kUnit = 0x1p-24, kSecondOrder = 1.001;
/// Norms below this square and multiply without an overflow.
inline constexpr double kLargestNorm = 0x1p60;

/// A row as products take it, operand = row - center rounded, and of what is exact the length, and
/// how far the operand is from it, squared.
struct Centered {
  double square, residual_square;
};
template <class Lanes>
OOD_BODY Centered center_row(const Lanes& lanes, const float* row, const float* center, Index dim,
                             float* operand) {
  lanes.each(dim, [&](Index d) { operand[d] = to_tf32(row[d] - center[d]); });
  return lanes.reduce(
      dim, Centered{0, 0},
      [&](Centered& own, Index d) {
        const double exact = static_cast<double>(row[d]) - static_cast<double>(center[d]);
        const double residual = exact - static_cast<double>(operand[d]);
        own.square += exact * exact;
        own.residual_square += residual * residual;
      },
      [](Centered& own, const Centered& other) {
        own.square += other.square;
        own.residual_square += other.residual_square;
      });
}

/// Rows of a bank, ready for a product, and what their keys' bounds need.
struct CenterBank {
  FloatRows bank;
  const float* center;
  Index distance;  ///< 1, or 0 for products
  FloatRowsOut operands;
  float *norms, *residuals, *offsets;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Centered row = center_row(lanes, bank.row(i), center, bank.cols, operands.row(i));
    lanes.once([&] {
      norms[i] = round_up(kSecondOrder * std::sqrt(row.square));
      residuals[i] = round_up(kSecondOrder * std::sqrt(row.residual_square));
      offsets[i] = distance != 0 ? static_cast<float>(-0.5 * row.square) : 0.0f;
    });
  }
};

/// What is known of a query so far.
struct NeighbourQuery {
  static constexpr Index kFiltered = 0, kComparedToAll = 1, kInvalid = 2;
  Index kind;
  double shift;                                     // q_z
  float of_norm, of_residual, of_offset, constant;  // the error of a key, as KeyError has it
  float limit;                                      // the key of the k-th best is not below
  Index compared;                                   // values that were taken
};

/// Rows of the bank that may be among the k nearest, in 32 lists for each query: every lane of a warp
/// appends to its own. Entry e of list s is at 32 e + s.
struct NeighbourLists {
  static constexpr Index kLists = 32;
  FloatRows x, bank;
  Index distance;     ///< 1, or 0 for products
  Index k, capacity;  ///< of each list
  NeighbourQuery* queries;
  // for each query 32 capacity
  float *lower, *upper;  // bounds of keys
  std::uint32_t* rows;
  std::uint64_t* codes;  // of values, while they are compared
  // for each query 32
  std::uint32_t *counts, *next;  // entries; the rows to look at next, in groups of 32
  // for each query k: the best values that were taken, in any order; 0 for none
  std::uint64_t* best;

  /// Those of one query.
  OOD_BODY NeighbourLists of(Index i) const {
    NeighbourLists own = *this;
    const Index slot = i * kLists * capacity;
    own.x.data = x.row(i);
    own.queries += i;
    own.lower += slot;
    own.upper += slot;
    own.rows += slot;
    own.codes += slot;
    own.counts += i * kLists;
    own.next += i * kLists;
    own.best += i * k;
    return own;
  }

  // What follows is of one query.

  /// A value and its row as a number, the greater the better. Ties to the lower row.
  OOD_BODY std::uint64_t code_of(float value, std::uint32_t row) const {
    return std::uint64_t{order_of(distance != 0 ? -value : value)} << 32 | (0xffffffffu - row);
  }
  OOD_BODY float value_of(std::uint64_t code) const {
    const float value = float_of(static_cast<std::uint32_t>(code >> 32));
    return distance != 0 ? 0.0f - value : value;
  }
  OOD_BODY static Index row_of(std::uint64_t code) {
    return static_cast<Index>(0xffffffffu - static_cast<std::uint32_t>(code));
  }

  OOD_BODY bool taken(Index slot) const { return slot / kLists < counts[slot % kLists]; }
  template <class Lanes>
  OOD_BODY Index longest(const Lanes& lanes) const {
    return lanes.template max<Index>(kLists, 0, [&](Index s) { return Index{counts[s]}; });
  }

  /// Drops rows that k others rule out.
  template <class Lanes>
  OOD_BODY void cut(const Lanes& lanes, float& limit) const {
    if (queries->kind != NeighbourQuery::kFiltered) return;
    if (lanes.template sum<Index>(kLists, [&](Index s) { return Index{counts[s]}; }) < k) return;
    const float kth = kth_largest(lanes, kLists * longest(lanes), k, [&](Index slot) {
      return taken(slot) ? lower[slot] : -kInfinity;
    });
    limit = larger(kth, limit);
    lanes.each(kLists, [&](Index s) {
      std::uint32_t kept = 0;
      for (std::uint32_t e = 0; e < counts[s]; ++e) {
        const Index from = kLists * e + s, to = kLists * kept + s;
        if (upper[from] < limit) continue;
        lower[to] = lower[from];
        upper[to] = upper[from];
        rows[to] = rows[from];
        ++kept;
      }
      counts[s] = kept;
    });
  }

  /// Takes the values of all rows in the lists, keeps the k best, and leaves the lists empty.
  template <class Lanes>
  OOD_BODY void settle(const Lanes& lanes, float& limit) const {
    const Index slots = kLists * longest(lanes);
    Index compared = 0;
    bool numbers = true;
    for (Index slot = 0; slot < slots; ++slot) {
      if (!taken(slot)) continue;
      const std::uint32_t row = rows[slot];
      const float *const z = x.data, *const b = bank.row(row);
      const float value =
          distance != 0 ? lanes.template sum<float>(
                              x.cols, [&](Index d) { return (z[d] - b[d]) * (z[d] - b[d]); })
                        : lanes.template sum<float>(x.cols, [&](Index d) { return z[d] * b[d]; });
      numbers = numbers && value == value;
      lanes.once([&] { codes[slot] = code_of(value, row); });
      ++compared;
    }
    const std::uint64_t kth = kth_best(lanes, slots);
    lanes.once([&] {
      Index place = 0;
      for (Index slot = 0; slot < slots; ++slot) {
        if (!taken(slot) || codes[slot] < kth) continue;
        while (best[place] >= kth) ++place;
        best[place] = codes[slot];
      }
      queries->compared += compared;
      if (!numbers) queries->kind = NeighbourQuery::kInvalid;
    });
    lanes.each(kLists, [&](Index s) { counts[s] = 0; });
    if (kth == 1 || queries->kind != NeighbourQuery::kFiltered) return;
    const auto value = static_cast<double>(value_of(kth));
    const double key = (distance != 0 ? -0.5 * value : value) - queries->shift;
    limit = larger(-round_up(-key), limit);
  }

  /// The k-th greatest code of all that were taken; 1 if they are fewer.
  template <class Lanes>
  OOD_BODY std::uint64_t kth_best(const Lanes& lanes, Index slots) const {
    const auto code = [&](Index j) {
      if (j >= slots) return best[j - slots];
      return taken(j) ? codes[j] : 0;
    };
    std::uint64_t low = 0;
    for (int bit = 63; bit >= 0; --bit) {
      const std::uint64_t above = low | std::uint64_t{1} << bit;
      const Index count = lanes.count(slots + k, [&](Index j) { return code(j) >= above; });
      if (count >= k) low = above;
      if (count == k) break;
    }
    // the least of those k, which is the greatest of their complements
    const std::uint64_t least = ~lanes.template max<std::uint64_t>(slots + k, 0, [&](Index j) {
      const std::uint64_t own = code(j);
      return own >= low ? ~own : 0;
    });
    return larger<std::uint64_t>(least, 1);
  }
};

/// Queries, ready for a product: what their keys' bounds need, and empty lists.
struct BeginNeighbours {
  NeighbourLists lists;
  const float *center, *query_center;
  double center_norm;
  Index safe;  ///< whether norms of the bank square and multiply without an overflow
  FloatRowsOut operands;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const NeighbourLists own = lists.of(i);
    const float *const z = own.x.data, *const operand = operands.row(i);
    const Index dim = own.x.cols;
    const Centered row = center_row(lanes, z, query_center, dim, operands.row(i));
    const auto dot = [&](const float* a, const float* b) {
      return lanes.template sum<double>(
          dim, [&](Index d) { return static_cast<double>(a[d]) * static_cast<double>(b[d]); });
    };
    const bool distance = lists.distance != 0;
    const double square = dot(z, z), length = std::sqrt(dot(operand, operand)),
                 centered = std::sqrt(row.square),
                 of_value = distance ? centered : std::sqrt(square);
    const double shift = distance ? -0.5 * row.square : dot(z, center);
    // of products, whose sums tensor units cut off; of values, in 32 partial sums
    const double terms = static_cast<double>(dim), product = 2 * terms * kUnit,
                 kernel = kUnit * (terms / 32 + 8), rounding = 4 * kUnit;
    // of q_z in float64, and of products and sums smaller than normal numbers
    const double rest = (terms + 4) * (0x1p-52 * of_value * (centered + center_norm) + 0x1p-124);
    lanes.each(lists.k, [&](Index j) { own.best[j] = 0; });
    lanes.each(NeighbourLists::kLists, [&](Index s) { own.counts[s] = 0; });
    lanes.once([&] {
      NeighbourQuery& query = *own.queries;
      query.kind = NeighbourQuery::kFiltered;
      if (!(safe != 0 && of_value + length < kLargestNorm))
        query.kind = is_finite(square) ? NeighbourQuery::kComparedToAll : NeighbourQuery::kInvalid;
      query.shift = shift;
      query.of_norm = round_up(kSecondOrder * (std::sqrt(row.residual_square) +
                                               (product + rounding) * length + kernel * of_value));
      query.of_residual = round_up(kSecondOrder * (1 + product + rounding) * length);
      query.of_offset = round_up(kSecondOrder * (rounding + (distance ? kernel : 0)));
      query.constant = round_up(
          kSecondOrder * (kernel * of_value * (distance ? 0.5 * centered : center_norm) + rest));
      query.limit = -kInfinity;
      query.compared = 0;
    });
  }
};

/// Adds those rows of a block of the bank to the lists that may be among the k nearest.
struct CollectNeighbours {
  NeighbourLists lists;
  FloatRows dots;
  const float *norms, *residuals, *offsets;
  Index first;  ///< row of the bank, a multiple of 32
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    constexpr Index kLists = NeighbourLists::kLists;
    const NeighbourLists own = lists.of(i);
    const NeighbourQuery query = *own.queries;
    if (query.kind == NeighbourQuery::kInvalid) return;
    const bool all = query.kind == NeighbourQuery::kComparedToAll;
    const float* const products = dots.row(i);
    float limit = query.limit;
    lanes.each(kLists, [&](Index s) { own.next[s] = 0; });
    for (;;) {
      lanes.each(kLists, [&](Index s) {
        std::uint32_t count = own.counts[s], group = own.next[s];
        for (; kLists * group < dots.cols && count < own.capacity; ++group) {
          const Index j = kLists * group + member(s, group);
          if (j >= dots.cols) continue;
          const float error = query.of_norm * norms[j] + query.of_residual * residuals[j] +
                              query.of_offset * std::fabs(offsets[j]) + query.constant;
          const float key = products[j] + offsets[j];
          if (!all && key + error < limit) continue;
          const Index slot = kLists * count + s;
          own.lower[slot] = key - error;
          own.upper[slot] = key + error;
          own.rows[slot] = static_cast<std::uint32_t>(first + j);
          ++count;
        }
        own.counts[s] = count;
        own.next[s] = group;
      });
      const Index stopped =
          lanes.count(kLists, [&](Index s) { return kLists * own.next[s] < dots.cols; });
      if (stopped == 0) break;
      own.cut(lanes, limit);
      if (2 * own.longest(lanes) > own.capacity) own.settle(lanes, limit);
    }
    lanes.once([&] { own.queries->limit = limit; });
  }

 private:
  /// Which row of a group goes to list s: another one in each, so that a bank whose classes take turns
  /// does not fill a few lists alone.
  OOD_BODY Index member(Index s, std::uint32_t group) const {
    const std::uint32_t turn = (static_cast<std::uint32_t>(first) / 32 + group) * 2654435769u >> 27;
    return (s + turn) % NeighbourLists::kLists;
  }
};

/// The k nearest, the best first.
struct FinishNeighbours {
  NeighbourLists lists;
  NeighbourSearch::Neighbour* found;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const NeighbourLists own = lists.of(i);
    const Index k = own.k;
    NeighbourSearch::Neighbour* const to = found + i * k;
    if (own.queries->kind != NeighbourQuery::kInvalid) {
      float limit = own.queries->limit;
      own.cut(lanes, limit);
      own.settle(lanes, limit);
    }
    if (own.queries->kind == NeighbourQuery::kInvalid) {
      lanes.each(k, [&](Index j) {
        to[j].value = kNaN;
        to[j].row = -1;
      });
      return;
    }
    lanes.each(k, [&](Index j) {
      const std::uint64_t code = own.best[j];
      Index place = 0;
      for (Index other = 0; other < k; ++other) place += own.best[other] > code ? 1 : 0;
      to[place].value = own.value_of(code);
      to[place].row = NeighbourLists::row_of(code);
    });
  }
};

/// The square root of the k-th value of each query.
struct KthDistance {
  const NeighbourSearch::Neighbour* found;
  Index k;
  float* out;
  OOD_BODY void operator()(Index i) const {
    const float kth = found[i * k + k - 1].value;
    out[i] = is_finite(kth) ? std::sqrt(kth) : kNaN;
  }
};

struct MeanDistance {
  const NeighbourSearch::Neighbour* found;
  Index k;
  float* out;
  OOD_BODY void operator()(Index i) const {
    const NeighbourSearch::Neighbour* const own = found + i * k;
    double sum = 0;
    for (Index j = 0; j < k; ++j) sum += std::sqrt(static_cast<double>(own[j].value));
    out[i] = is_finite(sum) ? static_cast<float>(sum / static_cast<double>(k)) : kNaN;
  }
};

struct MeanValue {
  const NeighbourSearch::Neighbour* found;
  Index k;
  float* out;
  OOD_BODY void operator()(Index i) const {
    double sum = 0;
    for (Index j = 0; j < k; ++j) sum += static_cast<double>(found[i * k + j].value);
    out[i] = static_cast<float>(sum / static_cast<double>(k));
  }
};

}  // namespace ood::kernels::bodies

#define OOD_NEAREST_BODIES(X) \
  X(CenterBank)               \
  X(BeginNeighbours)          \
  X(CollectNeighbours)        \
  X(FinishNeighbours)         \
  X(KthDistance)              \
  X(MeanDistance)             \
  X(MeanValue)
