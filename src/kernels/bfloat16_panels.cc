#include "kernels/bfloat16_panels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

// Highway has no instruction for this before its version 1.1; the compilers have one.
#if defined(__x86_64__)
#include <immintrin.h>
#define OOD_BFLOAT16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#endif

namespace ood::kernels {

Bfloat16Panels::Bfloat16Panels(const std::uint16_t* b, std::size_t stride, std::size_t rows,
                               std::size_t terms)
    : depth(terms), padded_depth((terms + 1) / 2 * 2), cols(rows) {
  const std::size_t panels = (rows + kWidth - 1) / kWidth;
  data.assign(panels * kWidth * padded_depth, 0);
  for (std::size_t j = 0; j < rows; ++j) {
    std::uint16_t* const panel = data.data() + j / kWidth * kWidth * padded_depth;
    for (std::size_t k = 0; k < depth; ++k)
      panel[(k / 2 * kWidth + j % kWidth) * 2 + k % 2] = b[j * stride + k];
  }
}

#if defined(__x86_64__)

bool has_bfloat16_panels() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

namespace {

constexpr std::size_t kLanes = 16, kVectors = Bfloat16Panels::kWidth / kLanes;
/// Terms of a sum that are added up before the next ones: a panel of so many stays in cache.
constexpr std::size_t kPart = 1024;

/// One part of the sums of kRows rows, those over the terms [begin, end), for the first `cols` columns
/// of a panel.
template <std::size_t kRows>
OOD_BFLOAT16 void multiply_part(const std::uint16_t* x, std::size_t stride,
                                const std::uint16_t* panel, std::size_t begin, std::size_t end,
                                std::size_t cols, float* out, std::size_t out_stride) {
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) sums[i][v] = _mm512_setzero_ps();
  for (std::size_t k = begin; k < end; k += 2) {
    __m512bh factors[kVectors];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v)
      factors[v] =
          (__m512bh)_mm512_loadu_si512(panel + k * Bfloat16Panels::kWidth + v * 2 * kLanes);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kRows; ++i) {
      std::int32_t pair;
      std::memcpy(&pair, x + i * stride + k, sizeof(pair));
      const auto entries = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (std::size_t v = 0; v < kVectors; ++v)
        sums[i][v] = _mm512_dpbf16_ps(sums[i][v], entries, factors[v]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) {
      float* const to = out + i * out_stride + v * kLanes;
      const std::size_t left = cols > v * kLanes ? std::min(cols - v * kLanes, kLanes) : 0;
      const auto there = static_cast<__mmask16>((1u << left) - 1);
      const __m512 before = begin == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(there, to);
      _mm512_mask_storeu_ps(to, there, begin == 0 ? sums[i][v] : _mm512_add_ps(before, sums[i][v]));
    }
}

}  // namespace

void bfloat16_product(const std::uint16_t* x, std::size_t stride, std::size_t rows,
                      const Bfloat16Panels& b, float* out) {
  for (std::size_t first = 0; first < b.cols; first += Bfloat16Panels::kWidth) {
    const std::size_t cols = std::min(Bfloat16Panels::kWidth, b.cols - first);
    const std::uint16_t* const panel = b.data.data() + first * b.padded_depth;
    for (std::size_t begin = 0; begin < b.padded_depth; begin += kPart) {
      const std::size_t end = std::min(b.padded_depth, begin + kPart);
      const std::uint16_t* row = x;
      float* to = out + first;
      const auto multiply = [&]<std::size_t kRows>(std::integral_constant<std::size_t, kRows>) {
        multiply_part<kRows>(row, stride, panel, begin, end, cols, to, b.cols);
        row += kRows * stride;
        to += kRows * b.cols;
      };
      std::size_t left = rows;
      for (; left >= 6; left -= 6) multiply(std::integral_constant<std::size_t, 6>());
      if (left >= 4) multiply(std::integral_constant<std::size_t, 4>());
      if (left % 4 >= 2) multiply(std::integral_constant<std::size_t, 2>());
      if (left % 2 == 1) multiply(std::integral_constant<std::size_t, 1>());
    }
  }
}

#else

bool has_bfloat16_panels() { return false; }

void bfloat16_product(const std::uint16_t*, std::size_t, std::size_t, const Bfloat16Panels&,
                      float*) {}

#endif

}  // namespace ood::kernels
