/// Products of bfloat16 rows without oneDNN, which allocates memory in every call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ood::kernels {

/// Whether this machine has AVX512_BF16, and this build knows how to use it.
bool has_bfloat16_panels();

/// A matrix b [cols, depth] of bfloat16 entries: panels of 64 columns of b^T, one behind the other, each
/// with pairs of terms side by side, [padded_depth / 2, 64, 2], filled up with zeros.
struct Bfloat16Panels {
  static constexpr std::size_t kWidth = 64;
  std::vector<std::uint16_t> data;
  std::size_t depth = 0, padded_depth = 0, cols = 0;

  Bfloat16Panels(const std::uint16_t* b, std::size_t stride, std::size_t rows, std::size_t depth);
};

/// out = x b^T, x [rows, padded_depth] of bfloat16 entries, 0 from `depth` on, `stride` entries apart
/// (even), out [rows, cols]. Sums are float32, in an order that does not depend on rows and place.
/// Only where has_bfloat16_panels().
void bfloat16_product(const std::uint16_t* x, std::size_t stride, std::size_t rows,
                      const Bfloat16Panels& b, float* out);

}  // namespace ood::kernels
