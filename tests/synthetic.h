/// Seeded arrays for tests: class clusters in feature space and what a linear head makes of them.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "ood/batch.h"

namespace ood::test {

struct Synthetic {
  Matrix features, logits;
  std::vector<std::int64_t> labels;
  Head head;

  Batch batch() const {
    Batch all;
    all.features = features;
    all.logits = logits;
    all.labels = labels;
    return all;
  }
};

inline Matrix normal_matrix(Index rows, Index cols, std::uint32_t seed, double scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, scale);
  Matrix matrix(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) matrix(i, j) = static_cast<float>(normal(random));
  return matrix;
}

/// Row i belongs to class i % classes. `shift` moves all rows away from the clusters.
inline Synthetic make_synthetic(Index rows, Index dim, Index classes, std::uint32_t seed,
                                double shift = 0) {
  Synthetic data;
  const Matrix centers = normal_matrix(classes, dim, 1, 3.0);
  data.head = {.weight = centers / 3.0f, .bias = Vector::LinSpaced(classes, -0.5f, 0.5f)};
  data.features = normal_matrix(rows, dim, seed);
  for (Index i = 0; i < rows; ++i) {
    data.labels.push_back(i % classes);
    data.features.row(i) += (shift == 0 ? 1.0f : 0.0f) * centers.row(i % classes);
    data.features.row(i).array() += static_cast<float>(shift);
  }
  data.logits = (data.features.cast<double>() * data.head.weight.cast<double>().transpose())
                    .cast<float>()
                    .rowwise() +
                data.head.bias.transpose();
  return data;
}

}  // namespace ood::test
