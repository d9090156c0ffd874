/// Seeded arrays for tests: class clusters in feature space and what a linear head makes of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>
#include <xtensor/xview.hpp>

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

/// Everything that a detector may ask for: features that are not below 0 with their logits, layers "a" (the
/// features, shuffled) and "b" (narrower), and copies of features and logits.
struct Everything : Synthetic {
  std::map<std::string, Matrix> layers;
  Tensor3 copy_features, copy_logits;

  Batch batch() const {
    Batch all = Synthetic::batch();
    for (const auto& [name, layer] : layers) all.layers.emplace(name, layer);
    all.copy_features.emplace(view_of(copy_features));
    all.copy_logits.emplace(view_of(copy_logits));
    return all;
  }

  /// The same rows in this order.
  Everything permuted(const std::vector<Index>& order) const {
    Everything other = *this;
    for (Index i = 0; i < std::ssize(order); ++i) {
      const Index from = order[static_cast<std::size_t>(i)];
      other.features.row(i) = features.row(from);
      other.logits.row(i) = logits.row(from);
      other.labels[static_cast<std::size_t>(i)] = labels[static_cast<std::size_t>(from)];
      for (auto& [name, layer] : other.layers) layer.row(i) = layers.at(name).row(from);
      xt::view(other.copy_features, xt::all(), i) = xt::view(copy_features, xt::all(), from);
      xt::view(other.copy_logits, xt::all(), i) = xt::view(copy_logits, xt::all(), from);
    }
    return other;
  }

  /// Puts a value somewhere into a row of each of its arrays.
  void spoil(Index row, float value) {
    features(row, row % features.cols()) = value;
    logits(row, row % logits.cols()) = value;
    for (auto& [name, layer] : layers) layer(row, row % layer.cols()) = value;
    const auto copy = static_cast<std::size_t>(row) % copy_features.shape()[0];
    copy_features(copy, row, row % features.cols()) = value;
    copy_logits(copy, row, row % logits.cols()) = value;
  }

  static Tensor3View view_of(const Tensor3& copies) {
    return xt::adapt(copies.data(), copies.size(), xt::no_ownership(),
                     std::array<std::size_t, 3>(copies.shape()),
                     std::array<std::ptrdiff_t, 3>(copies.strides()));
  }
};

/// `noise` is how far copies stray; `scale` multiplies features.
inline Everything make_everything(Index rows, Index dim, Index classes, std::uint32_t seed,
                                  double shift = 0, float scale = 1, double noise = 0.1) {
  Everything data;
  static_cast<Synthetic&>(data) = make_synthetic(rows, dim, classes, seed, shift);
  const auto logits_of = [&](const Matrix& z) -> Matrix {
    return (z.cast<double>() * data.head.weight.cast<double>().transpose())
               .cast<float>()
               .rowwise() +
           data.head.bias.transpose();
  };
  // like a ReLU, but no unit is dead: each varies in each class
  const auto rectified = [](const Matrix& z) -> Matrix { return z.cwiseMax(-0.1f * z); };
  data.features = scale * rectified(data.features);
  data.logits = logits_of(data.features);
  data.layers["a"] = data.features.rowwise().reverse();
  data.layers["b"] = data.features.leftCols(dim / 2 + 1);
  constexpr std::size_t kCopies = 5;
  const auto shape = [&](Index width) {
    return std::array{kCopies, static_cast<std::size_t>(rows), static_cast<std::size_t>(width)};
  };
  data.copy_features.resize(shape(dim));
  data.copy_logits.resize(shape(classes));
  for (std::size_t k = 0; k < kCopies; ++k) {
    const Matrix noise_of_copy =
        normal_matrix(rows, dim, seed + 100 + static_cast<std::uint32_t>(k), noise);
    const Matrix z = rectified(data.features + noise_of_copy);
    const Matrix f = logits_of(z);
    std::copy(z.data(), z.data() + z.size(), &data.copy_features(k, 0, 0));
    std::copy(f.data(), f.data() + f.size(), &data.copy_logits(k, 0, 0));
  }
  return data;
}

}  // namespace ood::test
