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

/// The k-th largest entry, 1 <= k <= n, of a row of finite numbers: the least t that less than k entries
/// are above. The interval that holds it is cut in the middle of its values first, which needs about as
/// many steps as the entries have digits to tell them apart; then in the middle of its bits, which ends.
HWY_INLINE float kth_largest_of_row(const float* row, size_t n, size_t k) {
  const F32 d;
  V32 most = hn::Set(d, row[0]), least = most;
  for_each_vector(row, n, row[0], [&](V32 x) HWY_ATTR {
    most = hn::Max(most, x);
    least = hn::Min(least, x);
  });
  float low = -max_lanes(hn::Neg(least)), high = max_lanes(most);
  if (count_above(row, n, low) < k) return low;
  // less than k are above high, k or more above low
  for (int step = 0; order_of(high) - static_cast<std::int64_t>(order_of(low)) > 1; ++step) {
    float t = step < 20 ? 0.5f * low + 0.5f * high : low;
    if (!(t > low && t < high))
      t = float_of(static_cast<std::int32_t>(
          (static_cast<std::int64_t>(order_of(low)) + order_of(high)) >> 1));
    const size_t above = count_above(row, n, t);
    if (above < k) {
      high = t;
      continue;
    }
    low = t;
    if (above > k) continue;
    // just the k largest are above
    V32 smallest = hn::Set(d, high);
    const V32 limit = hn::Set(d, t);
    for_each_vector(row, n, t, [&](V32 x) HWY_ATTR {
      smallest = hn::IfThenElse(hn::Gt(x, limit), hn::Min(smallest, x), smallest);
    });
    return -max_lanes(hn::Neg(smallest));
  }
  return high;
}

/// Writes the k largest entries of a row of n > k finite numbers, in no order; there is room for k and
/// two vectors.
HWY_INLINE void largest_of_row(const float* row, size_t n, size_t k, float* to) {
  const F32 d;
  const float least = kth_largest_of_row(row, n, k);
  const V32 limit = hn::Set(d, least);
  size_t count = 0;
  for_each_vector(row, n, least, [&](V32 x) HWY_ATTR {
    const auto above = hn::Gt(x, limit);
    hn::StoreU(hn::Compress(x, above), d, to + count);
    count += hn::CountTrue(d, above);
  });
  std::fill(to + count, to + k, least);
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#endif
