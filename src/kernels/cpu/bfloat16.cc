// Rounding to bfloat16, see kernels/bfloat16.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bfloat16.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include "kernels/bfloat16.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

using U32 = hn::RebindToUnsigned<F32>;
using U16 = hn::Rebind<std::uint16_t, F32>;

/// The bits of v in bfloat16, in the upper half; the lower half is 0. By integers: Highway has a rounding
/// conversion on some targets only.
HWY_INLINE hn::Vec<U32> rounded_bits(V32 v) {
  const U32 du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto nearest = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
  // The sum would carry NaN over to infinity or -0: a quiet one in its place
  const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
  const auto chosen = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, nearest);
  return hn::And(chosen, hn::Set(du, 0xffff0000));
}

HWY_INLINE hn::Vec<U16> upper_half(hn::Vec<U32> bits) {
  const hn::RebindToSigned<F32> di;
  return hn::DemoteTo(U16(), hn::BitCast(di, hn::ShiftRight<16>(bits)));  // in [0, 65535]: as it is
}

/// Calls step(vector, j, count) for each vector of a row, the last one of `count` entries and zeros.
template <class Step>
HWY_INLINE void for_each_part(const float* row, size_t n, Step&& step) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + lanes <= n; j += lanes) step(hn::LoadU(d, row + j), j, lanes);
  if (j < n) step(load_tail(d, row + j, n - j, 0.0f), j, n - j);
}

HWY_INLINE void store(hn::Vec<U16> v, std::uint16_t* to, size_t count) {
  const U16 d;
  if (count == hn::Lanes(d)) return hn::StoreU(v, d, to);
  HWY_ALIGN std::uint16_t last[HWY_MAX_BYTES / sizeof(std::uint16_t)];
  hn::Store(v, d, last);
  std::memcpy(to, last, count * sizeof(std::uint16_t));
}

void ToBfloat16(const float* x, size_t stride, size_t rows, size_t cols, std::uint16_t* out,
                size_t out_stride) {
  for (size_t i = 0; i < rows; ++i)
    for_each_part(x + i * stride, cols, [&](V32 v, size_t j, size_t count) HWY_ATTR {
      store(upper_half(rounded_bits(v)), out + i * out_stride + j, count);
    });
}

void SplitBfloat16(const float* x, size_t stride, size_t rows, size_t cols, std::uint16_t* high,
                   std::uint16_t* low, size_t out_stride) {
  for (size_t i = 0; i < rows; ++i)
    for_each_part(x + i * stride, cols, [&](V32 v, size_t j, size_t count) HWY_ATTR {
      const auto bits = rounded_bits(v);
      const V32 rest = hn::Sub(v, hn::BitCast(F32(), bits));  // exact
      store(upper_half(bits), high + i * out_stride + j, count);
      store(upper_half(rounded_bits(rest)), low + i * out_stride + j, count);
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(ToBfloat16);
HWY_EXPORT(SplitBfloat16);

void to_bfloat16(const float* x, std::size_t stride, std::size_t rows, std::size_t cols,
                 std::uint16_t* out, std::size_t out_stride) {
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(ToBfloat16)(x, stride, rows, cols, out, out_stride);
}

void split_bfloat16(const float* x, std::size_t stride, std::size_t rows, std::size_t cols,
                    std::uint16_t* high, std::uint16_t* low, std::size_t out_stride) {
  ensure_simd_target();
  HWY_DYNAMIC_DISPATCH(SplitBfloat16)(x, stride, rows, cols, high, low, out_stride);
}

}  // namespace ood::kernels
#endif
