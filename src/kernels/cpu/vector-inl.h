// What the SIMD kernels share; included once for each target, between HWY_BEFORE_NAMESPACE and
// HWY_AFTER_NAMESPACE users (hence no ordinary include guard).
#if defined(OOD_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OOD_VECTOR_INL_H_
#undef OOD_VECTOR_INL_H_
#else
#define OOD_VECTOR_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using V32 = hn::Vec<F32>;

/// The last n < Lanes(d) entries of a row, `fill` behind them; reads nothing beyond them.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_tail(D d, const T* from, size_t n, T fill) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN T lanes[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(hn::Set(d, fill), d, lanes);
  std::memcpy(lanes, from, n * sizeof(T));
  return hn::Load(d, lanes);
#else
  const auto mask = hn::FirstN(d, n);
  return hn::IfThenElse(mask, hn::MaskedLoad(mask, d, from), hn::Set(d, fill));
#endif
}

/// Calls step(vector) for a row of n entries, the last vector filled up with `fill`.
template <class Step>
HWY_INLINE void for_each_vector(const float* row, size_t n, float fill, Step&& step) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + lanes <= n; j += lanes) step(hn::LoadU(d, row + j));
  if (j < n) step(load_tail(d, row + j, n - j, fill));
}

/// The same over two rows of n entries.
template <class Step>
HWY_INLINE void for_each_vector_pair(const float* a, const float* b, size_t n, float fill,
                                     Step&& step) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  size_t j = 0;
  for (; j + lanes <= n; j += lanes) step(hn::LoadU(d, a + j), hn::LoadU(d, b + j));
  if (j < n) step(load_tail(d, a + j, n - j, fill), load_tail(d, b + j, n - j, fill));
}

HWY_INLINE float sum_lanes(V32 v) {
  const F32 d;
  return hn::GetLane(hn::SumOfLanes(d, v));
}
HWY_INLINE float max_lanes(V32 v) {
  const F32 d;
#if HWY_TARGET == HWY_EMU128  // there MaxOfLanes of -infinity alone is the lowest finite number
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, lanes);
  return *std::max_element(lanes, lanes + hn::Lanes(d));
#else
  return hn::GetLane(hn::MaxOfLanes(d, v));
#endif
}

/// 0 for finite x, NaN else: added up over a row, it makes NaN and infinity show in the result.
HWY_INLINE V32 add_poison(V32 poison, V32 x) {
  const F32 d;
  return hn::MulAdd(x, hn::Zero(d), poison);
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#endif
