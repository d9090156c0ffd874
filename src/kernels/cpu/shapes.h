/// The checks that every kernel makes of its arguments before it dispatches.
#pragma once

#include <cstddef>

#include "errors.h"
#include "ood/matrix.h"

namespace ood::kernels {

/// A MatrixView as the SIMD code takes it.
struct Rows {
  const float* data;
  std::size_t stride, rows, cols;
};

inline void require_size(const char* kernel, const char* what, std::size_t got, Index expected) {
  if (got != static_cast<std::size_t>(expected))
    throw_invalid("{}: {} has {} entries, expected {}", kernel, what, got, expected);
}

inline void require_shape(const char* kernel, const MatrixMap& out, Index rows, Index cols) {
  if (out.rows() != rows || out.cols() != cols)
    throw_invalid("{}: out has shape [{}, {}], expected [{}, {}]", kernel, out.rows(), out.cols(),
                  rows, cols);
}

inline MatrixMap map_of(Matrix& matrix) { return {matrix.data(), matrix.rows(), matrix.cols()}; }

inline Rows rows_of(const char* kernel, const MatrixView& x, std::size_t out_size) {
  require_size(kernel, "out", out_size, x.rows());
  if (x.cols() == 0 && x.rows() > 0)
    throw_invalid("{}: x has 0 columns, expected 1 or more", kernel);
  return {x.data(), static_cast<std::size_t>(x.outerStride()), static_cast<std::size_t>(x.rows()),
          static_cast<std::size_t>(x.cols())};
}

}  // namespace ood::kernels
