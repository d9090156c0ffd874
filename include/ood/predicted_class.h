#pragma once

#include <cmath>
#include <vector>

#include "ood/kernels.h"

namespace ood {

/// The class that each row of logits is largest in, the first of several; -1 for a row with NaN or
/// infinity. On the calling thread.
inline std::vector<Index> predicted_classes(const MatrixView& logits) {
  const auto rows = static_cast<std::size_t>(logits.rows());
  const std::vector<float> offset(static_cast<std::size_t>(logits.cols()), 0.0f);
  std::vector<float> largest(rows);
  std::vector<Index> classes(rows);
  kernels::row_argmax_affine(logits, 1.0f, offset, classes);
  kernels::row_max(logits, largest);
  for (std::size_t i = 0; i < rows; ++i)
    if (std::isnan(largest[i])) classes[i] = -1;
  return classes;
}

}  // namespace ood
