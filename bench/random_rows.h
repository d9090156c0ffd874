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

}  // namespace ood::bench
