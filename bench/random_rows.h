/// Made-up data.
#pragma once

#include <random>

#include "ood/matrix.h"

namespace ood::bench {

inline Matrix normal_rows(Index rows, Index cols, std::uint32_t seed = 1, float deviation = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  Matrix x(rows, cols);
  for (float& v : x.reshaped<Eigen::RowMajor>()) v = normal(random);
  return x;
}

/// Clusters behind a ReLU, as penultimate features are: not negative, about half of them 0.
inline Matrix class_rows(const Matrix& means, Index rows, std::uint32_t seed) {
  Matrix x = normal_rows(rows, means.cols(), seed, 0.5f);
  for (Index i = 0; i < rows; ++i) x.row(i) += means.row(i % means.rows());
  return x.cwiseMax(0);
}

}  // namespace ood::bench
