// The k largest entries of a row; included once for each target, as vector-inl.h is.
#if defined(OOD_SELECT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OOD_SELECT_INL_H_
#undef OOD_SELECT_INL_H_
#else
#define OOD_SELECT_INL_H_
#endif

#include <bit>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

/// How many entries of a row are above t.
HWY_INLINE size_t count_above(const float* row, size_t n, float t) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const V32 limit = hn::Set(d, t);
  const size_t lanes = hn::Lanes(d);
  auto first = hn::Zero(di), second = hn::Zero(di), third = hn::Zero(di), fourth = hn::Zero(di);
  const auto above = [&](V32 x) HWY_ATTR {
    return hn::VecFromMask(di, hn::RebindMask(di, hn::Gt(x, limit)));  // -1 where it is
  };
  size_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    first = hn::Sub(first, above(hn::LoadU(d, row + j)));
    second = hn::Sub(second, above(hn::LoadU(d, row + j + lanes)));
    third = hn::Sub(third, above(hn::LoadU(d, row + j + 2 * lanes)));
    fourth = hn::Sub(fourth, above(hn::LoadU(d, row + j + 3 * lanes)));
  }
  for (; j + lanes <= n; j += lanes) first = hn::Sub(first, above(hn::LoadU(d, row + j)));
  if (j < n) second = hn::Sub(second, above(load_tail(d, row + j, n - j, t)));
  const auto all = hn::Add(hn::Add(first, second), hn::Add(third, fourth));
  return static_cast<size_t>(hn::GetLane(hn::SumOfLanes(di, all)));
}

/// The whole number that is as large among whole numbers as a finite t is among float32, and back.
HWY_INLINE std::int32_t order_of(float t) {
  const auto bits = std::bit_cast<std::int32_t>(t);
  return bits >= 0 ? bits : std::numeric_limits<std::int32_t>::min() - bits;
}
HWY_INLINE float float_of(std::int32_t order) {
  return std::bit_cast<float>(order >= 0 ? order
                                         : std::numeric_limits<std::int32_t>::min() - order);
}

/// Writes the entries for which keep(vector), a mask, holds and returns how many there are. `to` may be
/// `row`; there has to be room for a vector behind them.
template <class Keep>
HWY_INLINE size_t copy_entries(const float* row, size_t n, float fill, float* to, Keep&& keep) {
  const F32 d;
  size_t count = 0;
  for_each_vector(row, n, fill, [&](V32 x) HWY_ATTR {  // keep(fill) is false
    const auto kept = keep(x);
    hn::StoreU(hn::Compress(x, kept), d, to + count);
    count += hn::CountTrue(d, kept);
  });
  return count;
}

/// Room that kth_largest_of_row needs for a row of n entries.
HWY_INLINE size_t room_to_select(size_t n) { return n / 4 + hn::Lanes(F32()); }

/// The k-th largest entry, 1 <= k <= n, of a row of finite numbers: the least t that less than k entries
/// are above. The interval that holds it is cut in the middle of its values, which needs about as many
/// steps as the entries have digits to tell them apart; then in the middle of its bits, which ends. Only
/// what lies in it is counted, once that is a quarter of the entries.
HWY_INLINE float kth_largest_of_row(const float* row, size_t n, size_t k, float* room) {
  const F32 d;
  V32 most = hn::Set(d, row[0]), least = most;
  for_each_vector(row, n, row[0], [&](V32 x) HWY_ATTR {
    most = hn::Max(most, x);
    least = hn::Min(least, x);
  });
  float low = -max_lanes(hn::Neg(least)), high = max_lanes(most);
  size_t above_low = count_above(row, n, low), above_high = 0;
  if (above_low < k) return low;
  // above_high < k <= above_low
  for (int step = 0; order_of(high) - static_cast<std::int64_t>(order_of(low)) > 1; ++step) {
    float t = step < 20 ? 0.5f * low + 0.5f * high : low;
    if (!(t > low && t < high))
      t = float_of(static_cast<std::int32_t>(
          (static_cast<std::int64_t>(order_of(low)) + order_of(high)) >> 1));
    const size_t above = count_above(row, n, t);
    (above < k ? high : low) = t;
    (above < k ? above_high : above_low) = above;
    if (above == k) break;
    if (4 * (above_low - above_high) > n) continue;
    const V32 from = hn::Set(d, low), to = hn::Set(d, high);
    n = copy_entries(row, n, low, room,
                     [&](V32 x) HWY_ATTR { return hn::And(hn::Gt(x, from), hn::Le(x, to)); });
    row = room;
    k -= above_high;
    above_low = n;
    above_high = 0;
  }
  if (above_low != k) return high;
  // just the k largest are above low
  V32 smallest = hn::Set(d, high);
  const V32 limit = hn::Set(d, low);
  for_each_vector(row, n, low, [&](V32 x) HWY_ATTR {
    smallest = hn::IfThenElse(hn::Gt(x, limit), hn::Min(smallest, x), smallest);
  });
  return -max_lanes(hn::Neg(smallest));
}

/// Writes the k largest entries of a row of n > k finite numbers, in no order; there is room for k and
/// a vector, and for kth_largest_of_row.
HWY_INLINE void largest_of_row(const float* row, size_t n, size_t k, float* to) {
  const float least = kth_largest_of_row(row, n, k, to);
  const V32 limit = hn::Set(F32(), least);
  const size_t count =
      copy_entries(row, n, least, to, [&](V32 x) HWY_ATTR { return hn::Gt(x, limit); });
  std::fill(to + count, to + k, least);
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#endif
