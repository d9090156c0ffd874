// Powers and logarithms to the base 2 in float32; included once for each target, as vector-inl.h is.
#if defined(OOD_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OOD_EXP_INL_H_
#undef OOD_EXP_INL_H_
#else
#define OOD_EXP_INL_H_
#endif

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

using I32 = hn::RebindToSigned<F32>;

/// log2(r) for r in [0, 2), -infinity for r = 0 and what is smaller than a normal number.
/// r = m 2^e with m in [sqrt(1/2), sqrt(2)), log2(m) = t P(t) with t = m - 1. P has the least largest
/// relative error of its degree, 2.6e-8.
HWY_INLINE V32 log2_of(V32 r) {
  const F32 d;
  const I32 di;
  const auto c = [&](float v) HWY_ATTR { return hn::Set(d, v); };
  const auto root = hn::BitCast(di, c(0.70710678f));
  const auto e = hn::ShiftRight<23>(hn::Sub(hn::BitCast(di, r), root));
  const V32 m = hn::BitCast(d, hn::Sub(hn::BitCast(di, r), hn::ShiftLeft<23>(e)));
  const V32 t = hn::Sub(m, c(1.0f));
  V32 poly = hn::MulAdd(c(0.12583689391613007f), t, c(-0.20726968348026276f));
  poly = hn::MulAdd(poly, t, c(0.21571561694145203f));
  poly = hn::MulAdd(poly, t, c(-0.23894482851028442f));
  poly = hn::MulAdd(poly, t, c(0.28791624307632446f));
  poly = hn::MulAdd(poly, t, c(-0.3607036769390106f));
  poly = hn::MulAdd(poly, t, c(0.48091062903404236f));
  poly = hn::MulAdd(poly, t, c(-0.7213473320007324f));
  poly = hn::MulAdd(poly, t, c(1.4426950216293335f));
  const V32 log = hn::MulAdd(poly, t, hn::ConvertTo(d, e));
  const V32 nothing = c(-std::numeric_limits<float>::infinity());
  return hn::IfThenElse(hn::Lt(r, c(std::numeric_limits<float>::min())), nothing, log);
}

/// x -> 2^(factor x) for factor x <= 1. Exact where factor x = n; 2^-126 or less, but not below 0, where
/// that would be less. factor x = n + f with f in [-1/2, 1/2], 2^f = 1 + f P(f) to 1.65 u: relative
/// error <= 3 u for factor x as the targets with fused multiply-add have it, exactly; others round it.
class ScaledExp2 {
 public:
  HWY_INLINE explicit ScaledExp2(double factor) {
    const F32 d;
    factor_ = hn::Set(d, static_cast<float>(factor));
    least_ = hn::Set(d, static_cast<float>(-126.0 / factor));
  }
  /// Several vectors at a time, step by step: the steps of one alone would wait for each other. What is
  /// so small in x that it counts as the least becomes that. kMinusOne: 2^(factor x) - 1, relative error
  /// <= 12 u also where that is near 0.
  template <bool kMinusOne = false, size_t kCount>
  HWY_INLINE void apply(V32 (&x)[kCount], V32 (&power)[kCount]) const {
    const F32 d;
    const I32 di;
    const auto c = [&](float v) HWY_ATTR { return hn::Set(d, v); };
    // Beside 1.5 2^23 a float32 has no fraction: that rounds, and n is what the lowest bits hold
    const V32 magic = c(12582912.0f);
    V32 rounded[kCount], f[kCount];
    for (size_t k = 0; k < kCount; ++k) x[k] = hn::Max(x[k], least_);
    for (size_t k = 0; k < kCount; ++k) rounded[k] = hn::MulAdd(x[k], factor_, magic);
    for (size_t k = 0; k < kCount; ++k) f[k] = hn::Sub(rounded[k], magic);
    for (size_t k = 0; k < kCount; ++k) f[k] = hn::MulSub(x[k], factor_, f[k]);
    for (size_t k = 0; k < kCount; ++k)
      power[k] = hn::MulAdd(c(0.0013264631852507591f), f[k], c(0.009671498090028763f));
    for (const float coefficient :
         {0.055507272481918335f, 0.24022243916988373f, 0.6931470036506653f})
      for (size_t k = 0; k < kCount; ++k) power[k] = hn::MulAdd(power[k], f[k], c(coefficient));
    const V32 one = c(1.0f);
    for (size_t k = 0; k < kCount; ++k) {
      const auto n = hn::ShiftLeft<23>(hn::BitCast(di, rounded[k]));  // to add to an exponent
      if constexpr (kMinusOne) {
        const V32 two_to_n = hn::BitCast(d, hn::Add(hn::BitCast(di, one), n));
        power[k] = hn::MulAdd(two_to_n, hn::Mul(power[k], f[k]), hn::Sub(two_to_n, one));
      } else {
        power[k] = hn::BitCast(d, hn::Add(hn::BitCast(di, hn::MulAdd(power[k], f[k], one)), n));
      }
    }
  }
  HWY_INLINE V32 operator()(V32 x) const {
    V32 from[1] = {x}, power[1];
    apply(from, power);
    return power[0];
  }

 private:
  V32 factor_, least_;
};

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#endif
