// Products of a few rows, see kernels/panels.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/panels.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/vector-inl.h"
#include "kernels/panels.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

#if HWY_TARGET <= HWY_AVX3  // the better ones have the lower numbers

constexpr size_t kVectors = Panels::kWidth / 16;

/// kRows rows times kPanels panels, over the terms [begin, end) of the sums: one part.
template <size_t kRows, size_t kPanels>
HWY_INLINE void multiply_part(const float* x, size_t stride, const Panels& b, size_t panel,
                              size_t begin, size_t end, float* out) {
  const F32 d;
  V32 sums[kRows][kPanels * kVectors];
  for (auto& row : sums)
    for (V32& sum : row) sum = hn::Zero(d);
  const size_t panel_size = b.padded_depth * Panels::kWidth;
  const float* from = b.data + panel * panel_size;
  for (size_t k = begin; k < end; ++k) {
    V32 factors[kPanels * kVectors];
    for (size_t p = 0; p < kPanels; ++p)
      for (size_t v = 0; v < kVectors; ++v)
        factors[p * kVectors + v] =
            hn::LoadU(d, from + p * panel_size + k * Panels::kWidth + v * 16);
    for (size_t i = 0; i < kRows; ++i) {
      const V32 entry = hn::Set(d, x[i * stride + k]);
      for (size_t v = 0; v < kPanels * kVectors; ++v)
        sums[i][v] = hn::MulAdd(entry, factors[v], sums[i][v]);
    }
  }
  const size_t first = panel * Panels::kWidth,
               count = std::min(b.cols - first, kPanels * Panels::kWidth);
  for (size_t i = 0; i < kRows; ++i)
    for (size_t v = 0; v < kPanels * kVectors; ++v) {
      if (v * 16 >= count) continue;
      float* to = out + i * b.cols + first + v * 16;
      const auto there = hn::FirstN(d, count - v * 16);  // all of them, but in the last vector
      const V32 before = begin == 0 ? hn::Zero(d) : hn::MaskedLoad(there, d, to);
      hn::BlendedStore(begin == 0 ? sums[i][v] : hn::Add(before, sums[i][v]), there, d, to);
    }
}

template <size_t kRows>
void multiply_rows(const float* x, size_t stride, const Panels& b, float* out) {
  // two panels at a time for one row, where the sums of one would wait for each other
  constexpr size_t kPanels = kRows == 1 ? 2 : 1;
  const size_t panels = (b.cols + Panels::kWidth - 1) / Panels::kWidth;
  size_t panel = 0;
  const auto parts = [&](auto multiply) HWY_ATTR {
    for (size_t begin = 0; begin < b.depth; begin += b.part)
      multiply(begin, std::min(b.depth, begin + b.part));
  };
  for (; panel + kPanels <= panels; panel += kPanels)
    parts([&](size_t begin, size_t end)
              HWY_ATTR { multiply_part<kRows, kPanels>(x, stride, b, panel, begin, end, out); });
  for (; panel < panels; ++panel)
    parts([&](size_t begin, size_t end)
              HWY_ATTR { multiply_part<kRows, 1>(x, stride, b, panel, begin, end, out); });
}

bool PanelProduct(const float* x, size_t stride, size_t rows, const Panels& b, float* out) {
  for (; rows >= 4; rows -= 4, x += 4 * stride, out += 4 * b.cols)
    multiply_rows<4>(x, stride, b, out);
  if (rows == 3) multiply_rows<3>(x, stride, b, out);
  if (rows == 2) multiply_rows<2>(x, stride, b, out);
  if (rows == 1) multiply_rows<1>(x, stride, b, out);
  return true;
}

#else

bool PanelProduct(const float*, size_t, size_t, const Panels&, float*) { return false; }

#endif

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(PanelProduct);

bool panel_product(const float* x, std::size_t stride, std::size_t rows, const Panels& b,
                   float* out) {
  ensure_simd_target();
  return HWY_DYNAMIC_DISPATCH(PanelProduct)(x, stride, rows, b, out);
}

}  // namespace ood::kernels
#endif
