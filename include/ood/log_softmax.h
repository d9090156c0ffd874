/// The softmax in float64.
#pragma once

#include <cmath>

#include "ood/matrix.h"

namespace ood {

/// out_c = log softmax(f)_c, as long as f; returns the first c at which f is largest. With
/// r = sum over the other c of exp(f_c - f_top): out_top = -log1p(r), which keeps its relative
/// accuracy where p -> 1, and no entry is -infinity. Needs finite f.
inline Index log_softmax(const MatrixView& logits, Index row, VectorDMap out) {
  out = logits.row(row).transpose().cast<double>();
  Index top = 0;
  const double largest = out.maxCoeff(&top);
  double rest = 0;
  for (Index c = 0; c < out.size(); ++c) {
    out[c] -= largest;
    if (c != top) rest += std::exp(out[c]);
  }
  out.array() -= std::log1p(rest);
  return top;
}
inline Index log_softmax(const MatrixView& logits, Index row, VectorD& out) {  // which is resized
  out.resize(logits.cols());
  return log_softmax(logits, row, VectorDMap(out.data(), out.size()));
}

}  // namespace ood
