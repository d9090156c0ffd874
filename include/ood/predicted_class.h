#pragma once

#include <cmath>
#include <vector>

#include "ood/kernels.h"
#include "ood/scratch.h"

namespace ood {

/// The class that each row of logits is largest in, the first of several; -1 for a row with NaN or
/// infinity. On the calling thread.
inline void predicted_classes(const MatrixView& logits, std::span<Index> out) {
  Scratch scratch;
  const std::pmr::vector<float> offset(static_cast<std::size_t>(logits.cols()), 0.0f, &scratch);
  std::pmr::vector<float> largest(out.size(), &scratch);
  kernels::row_argmax_affine(logits, 1.0f, offset, out);
  kernels::row_max(logits, largest);
  for (std::size_t i = 0; i < out.size(); ++i)
    if (std::isnan(largest[i])) out[i] = -1;
}
inline std::vector<Index> predicted_classes(const MatrixView& logits) {
  std::vector<Index> classes(static_cast<std::size_t>(logits.rows()));
  predicted_classes(logits, classes);
  return classes;
}

}  // namespace ood
