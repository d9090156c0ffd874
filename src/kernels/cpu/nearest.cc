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

size_t VectorLanes() { return hn::Lanes(F32()); }

size_t FindReaching(const float* dots, size_t n, const BankRows& rows, const KeyError& error,
                    float limit, size_t& begin, const Reaching& found) {
  const F32 d;
  const hn::RebindToUnsigned<F32> du;
  const size_t lanes = hn::Lanes(d), capacity = found.places.size();
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
    hn::CompressStore(hn::Sub(key, off), reaches, d, found.lower.data() + count);
    hn::CompressStore(upper, reaches, d, found.upper.data() + count);
    count += hn::CompressStore(hn::Iota(du, static_cast<std::uint32_t>(j)),
                               hn::RebindMask(du, reaches), du, found.places.data() + count);
  }
  begin = j;
  return count;
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

std::size_t find_reaching(std::span<const float> dots, const BankRows& rows, const KeyError& error,
                          float limit, std::size_t& begin, const Reaching& found) {
  ensure_simd_target();
  return HWY_DYNAMIC_DISPATCH(FindReaching)(dots.data(), dots.size(), rows, error, limit, begin,
                                            found);
}

std::size_t vector_lanes() {
  ensure_simd_target();
  return HWY_DYNAMIC_DISPATCH(VectorLanes)();
}

}  // namespace ood::kernels
#endif
