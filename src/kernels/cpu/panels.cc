// Products by panels, see kernels/panels.h.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/panels.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/vector-inl.h"
#include "kernels/panels.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

#if HWY_TARGET <= HWY_AVX3  // the better ones have the lower numbers

constexpr size_t kLanes = 16;

/// One part of the sums of kRows rows, those over the terms [begin, end), for the first `cols` columns
/// of kPanels panels, which are in kVectors vectors of each.
template <size_t kRows, size_t kVectors, size_t kPanels = 1>
HWY_INLINE void multiply_part(const float* x, size_t stride, const Panels& b, const float* panel,
                              size_t begin, size_t end, size_t cols, float* out) {
  const F32 d;
  constexpr size_t kAll = kPanels * kVectors;
  const size_t panel_size = b.padded_depth * Panels::kWidth;
  V32 sums[kRows][kAll];
  for (auto& row : sums)
    for (V32& sum : row) sum = hn::Zero(d);
  for (size_t k = begin; k < end; ++k) {
    V32 factors[kAll];
    for (size_t v = 0; v < kAll; ++v)
      factors[v] = hn::LoadU(
          d, panel + v / kVectors * panel_size + k * Panels::kWidth + v % kVectors * kLanes);
    for (size_t i = 0; i < kRows; ++i) {
      const V32 entry = hn::Set(d, x[i * stride + k]);
      for (size_t v = 0; v < kAll; ++v) sums[i][v] = hn::MulAdd(entry, factors[v], sums[i][v]);
    }
  }
  for (size_t i = 0; i < kRows; ++i)
    for (size_t v = 0; v < kAll; ++v) {
      float* to = out + i * b.cols + v * kLanes;
      const auto there = hn::FirstN(d, cols - v * kLanes);  // all, but in the last vector
      const V32 before = begin == 0 ? hn::Zero(d) : hn::MaskedLoad(there, d, to);
      hn::BlendedStore(begin == 0 ? sums[i][v] : hn::Add(before, sums[i][v]), there, d, to);
    }
}

/// All rows times the first `cols` columns of a panel: part by part, which stays in cache for all rows.
template <size_t kVectors>
void multiply_panel(const float* x, size_t stride, size_t rows, const Panels& b, size_t first,
                    size_t cols, float* out) {
  const float* panel = b.data + first * b.padded_depth;
  for (size_t begin = 0; begin < b.depth; begin += b.part) {
    const size_t end = std::min(b.depth, begin + b.part);
    const float* row = x;
    float* to = out + first;
    const auto multiply = [&]<size_t kRows>(std::integral_constant<size_t, kRows>) HWY_ATTR {
      multiply_part<kRows, kVectors>(row, stride, b, panel, begin, end, cols, to);
      row += kRows * stride;
      to += kRows * b.cols;
    };
    size_t left = rows;
    for (; left >= 6; left -= 6) multiply(std::integral_constant<size_t, 6>());
    if (left >= 4) multiply(std::integral_constant<size_t, 4>());
    if (left % 4 >= 2) multiply(std::integral_constant<size_t, 2>());
    if (left % 2 == 1) multiply(std::integral_constant<size_t, 1>());
  }
}

bool PanelProduct(const float* x, size_t stride, size_t rows, const Panels& b, float* out) {
  constexpr size_t kWidth = Panels::kWidth;
  size_t first = 0;
  if (rows == 1)  // two panels at a time: the sums of one would wait for each other
    for (; first + 2 * kWidth <= b.cols; first += 2 * kWidth)
      for (size_t begin = 0; begin < b.depth; begin += b.part)
        multiply_part<1, 4, 2>(x, stride, b, b.data + first * b.padded_depth, begin,
                               std::min(b.depth, begin + b.part), 2 * kWidth, out + first);
  for (; first < b.cols; first += kWidth) {
    const size_t cols = std::min(kWidth, b.cols - first);
    if (cols > 3 * kLanes)
      multiply_panel<4>(x, stride, rows, b, first, cols, out);
    else if (cols > 2 * kLanes)
      multiply_panel<3>(x, stride, rows, b, first, cols, out);
    else if (cols > kLanes)
      multiply_panel<2>(x, stride, rows, b, first, cols, out);
    else
      multiply_panel<1>(x, stride, rows, b, first, cols, out);
  }
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
