/// Products without oneDNN, which allocates memory in every call.
#pragma once

#include <cstddef>

namespace ood::kernels {

/// A matrix b [cols, depth] as oneDNN's AVX-512 products read it: panels of 64 columns of b^T, each
/// [padded_depth, 64], one behind the other, filled up with zeros.
struct Panels {
  static constexpr std::size_t kWidth = 64;
  const float* data = nullptr;
  std::size_t depth = 0, padded_depth = 0, cols = 0;
  /// A sum over `depth` is made in parts of so many terms, each from 0 and in their order with fused
  /// multiply-add; the parts are added up in their order.
  std::size_t part = 0;
};

/// out = x b^T, x [rows, depth] `stride` floats apart, out [rows, cols]. False, and nothing done, where
/// the instruction set in use has no vectors of 16 floats.
bool panel_product(const float* x, std::size_t stride, std::size_t rows, const Panels& b,
                   float* out);

}  // namespace ood::kernels
