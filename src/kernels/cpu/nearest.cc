// Which rows of a bank may be among the nearest, see kernels/nearest.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/nearest.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/vector-inl.h"
#include "kernels/nearest.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

using U32 = hn::RebindToUnsigned<F32>;

size_t VectorLanes() { return hn::Lanes(F32()); }

size_t FindReaching(const float* dots, size_t n, const BankRows& rows, const KeyError& error,
                    float limit, std::uint32_t first_row, size_t& begin, size_t capacity,
                    const Reaching& found) {
  const F32 d;
  const U32 du;
  const size_t lanes = hn::Lanes(d);
  const V32 least = hn::Set(d, limit), of_norm = hn::Set(d, error.scale_norm),
            of_residual = hn::Set(d, error.scale_residual),
            of_offset = hn::Set(d, error.scale_offset), constant = hn::Set(d, error.constant);
  const float *offsets = rows.offsets.data(), *norms = rows.norms.data(),
              *residuals = rows.residuals.data();
  size_t count = 0, j = begin;
  for (; j < n && count + lanes <= capacity; j += lanes) {
    const size_t left = n - j;
    const auto load = [&](const float* from) HWY_ATTR {
      return left >= lanes ? hn::LoadU(d, from + j) : load_tail(d, from + j, left, 0.0f);
    };
    const V32 offset = load(offsets);
    V32 off = hn::MulAdd(of_norm, load(norms), constant);
    off = hn::MulAdd(of_residual, load(residuals), off);
    off = hn::MulAdd(of_offset, hn::Abs(offset), off);
    const V32 key = hn::Add(load(dots), offset);
    const V32 upper = hn::Add(key, off);
    auto reaches = hn::Ge(upper, least);
    if (left < lanes) reaches = hn::And(reaches, hn::FirstN(d, left));
    if (hn::AllFalse(d, reaches)) continue;
    hn::CompressStore(hn::Sub(key, off), reaches, d, found.lower + count);
    hn::CompressStore(upper, reaches, d, found.upper + count);
    count += hn::CompressStore(hn::Iota(du, first_row + static_cast<std::uint32_t>(j)),
                               hn::RebindMask(du, reaches), du, found.rows + count);
  }
  begin = j;
  return count;
}

/// A float as an integer of the same order, and back.
std::uint32_t ordered(float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, sizeof(bits));
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
float from_ordered(std::uint32_t order) {
  const std::uint32_t bits = order >> 31 ? order & 0x7fffffffu : ~order;
  float v;
  std::memcpy(&v, &bits, sizeof(v));
  return v;
}

/// The largest value that k of them reach, by bisection: it takes 32 passes at most, and no branch
/// depends on a single value.
float KthLargest(const float* values, size_t n, size_t k) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  V32 least = hn::Set(d, values[0]), most = least;
  for_each_vector(values, n, values[0], [&](V32 v) HWY_ATTR {
    least = hn::Min(least, v);
    most = hn::Max(most, v);
  });
  HWY_ALIGN float ends[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(least, d, ends);
  std::uint32_t low = ordered(*std::min_element(ends, ends + lanes));  // all reach it
  hn::Store(most, d, ends);
  std::uint32_t high = ordered(*std::max_element(ends, ends + lanes));
  while (low < high) {
    const std::uint32_t middle = high - (high - low) / 2;
    const float bound = from_ordered(middle);
    const V32 bounds = hn::Set(d, bound);
    size_t count = 0, j = 0;
    for (; j + lanes <= n; j += lanes)
      count += hn::CountTrue(d, hn::Ge(hn::LoadU(d, values + j), bounds));
    for (; j < n; ++j) count += values[j] >= bound ? 1 : 0;
    if (count >= k)
      low = middle;
    else
      high = middle - 1;
  }
  return from_ordered(low);
}

size_t KeepReaching(const Reaching& rows, size_t n, float limit) {
  const F32 d;
  const U32 du;
  const size_t lanes = hn::Lanes(d);
  const V32 least = hn::Set(d, limit);
  size_t kept = 0, j = 0;
  for (; j + lanes <= n; j += lanes) {  // kept <= j: what is overwritten has been read
    const V32 upper = hn::LoadU(d, rows.upper + j), lower = hn::LoadU(d, rows.lower + j);
    const auto row = hn::LoadU(du, rows.rows + j);
    const auto reaches = hn::Ge(upper, least);
    hn::CompressBlendedStore(lower, reaches, d, rows.lower + kept);
    hn::CompressBlendedStore(row, hn::RebindMask(du, reaches), du, rows.rows + kept);
    kept += hn::CompressBlendedStore(upper, reaches, d, rows.upper + kept);
  }
  for (; j < n; ++j) {
    if (!(rows.upper[j] >= limit)) continue;
    rows.lower[kept] = rows.lower[j];
    rows.upper[kept] = rows.upper[j];
    rows.rows[kept++] = rows.rows[j];
  }
  return kept;
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/shapes.h"
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(VectorLanes);
HWY_EXPORT(FindReaching);
HWY_EXPORT(KthLargest);
HWY_EXPORT(KeepReaching);

std::size_t find_reaching(std::span<const float> dots, const BankRows& rows, const KeyError& error,
                          float limit, std::uint32_t first_row, std::size_t& begin,
                          std::size_t capacity, const Reaching& found) {
  ensure_simd_target();
  return HWY_DYNAMIC_DISPATCH(FindReaching)(dots.data(), dots.size(), rows, error, limit, first_row,
                                            begin, capacity, found);
}

float kth_largest(std::span<const float> values, std::size_t k) {
  ensure_simd_target();
  return HWY_DYNAMIC_DISPATCH(KthLargest)(values.data(), values.size(), k);
}

std::size_t keep_reaching(const Reaching& rows, std::size_t n, float limit) {
  ensure_simd_target();
  return HWY_DYNAMIC_DISPATCH(KeepReaching)(rows, n, limit);
}

std::size_t vector_lanes() {
  ensure_simd_target();
  return HWY_DYNAMIC_DISPATCH(VectorLanes)();
}

}  // namespace ood::kernels
#endif
