/// The kernels as a user would write them: plain loops, the functions of <cmath>, Eigen for
/// products. Like all of this project, compiled for any x86-64 machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "ood/matrix.h"

namespace ood::bench::naive {

using Row = std::span<const float>;

inline Row row_of(const MatrixView& x, Index i) {
  return {x.row_data(i), static_cast<std::size_t>(x.cols())};
}

/// Calls function(row) for each row.
template <class Function>
void each_row(const MatrixView& x, std::span<float> out, const Function& function) {
  for (Index i = 0; i < x.rows(); ++i) out[static_cast<std::size_t>(i)] = function(row_of(x, i));
}

inline float max(Row x) { return *std::ranges::max_element(x); }

inline float log_sum_exp(Row x) {
  const float largest = max(x);
  float sum = 0;
  for (const float v : x) sum += std::exp(v - largest);
  return largest + std::log(sum);
}

inline std::vector<float> softmax(Row x) {
  const float log_sum = log_sum_exp(x);
  std::vector<float> p;
  p.reserve(x.size());
  for (const float v : x) p.push_back(std::exp(v - log_sum));
  return p;
}

inline float max_probability(Row x) { return max(softmax(x)); }

inline float log_odds(Row x) {
  const float p = max_probability(x);
  return std::log(p / (1 - p));
}

inline float distance_from_uniform(Row x) {
  float sum = 0;
  for (const float p : softmax(x)) sum += std::abs(p - 1 / static_cast<float>(x.size()));
  return sum;
}

inline float kth_largest(Row x, std::size_t k) {
  std::vector<float> values(x.begin(), x.end());
  const auto kth = values.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::ranges::nth_element(values, kth, std::greater<>());
  return *kth;
}

inline double sum_above(Row x, float t) {
  double sum = 0;
  for (const float v : x) sum += std::max(static_cast<double>(v) - static_cast<double>(t), 0.0);
  return sum;
}

inline float sum_of_absolutes(Row x) {
  float sum = 0;
  for (const float v : x) sum += std::abs(v);
  return sum;
}

inline float negative_gini(Row x) {
  float sum = 0;
  for (const float p : softmax(x)) sum += p * p;
  return sum - 1;
}

inline float divergence_from_uniform(Row x) {
  const float log_sum = log_sum_exp(x), length = static_cast<float>(x.size());
  float sum = 0;
  for (const float v : x) sum += log_sum - v;
  return sum / length - std::log(length);
}

inline float negative_entropy(Row x) {
  float sum = 0;
  for (const float p : softmax(x))
    if (p > 0) sum += p * std::log(p);
  return sum;
}

inline float generalized_entropy(Row x, float gamma, std::size_t top) {
  auto p = softmax(x);
  top = std::min(top, p.size());
  std::partial_sort(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(top), p.end(),
                    std::greater<>());
  float sum = 0;
  for (std::size_t j = 0; j < top; ++j) sum += std::pow(p[j], gamma) * std::pow(1 - p[j], gamma);
  return -sum;
}

inline float norm(Row x, float order) {
  float sum = 0;
  for (const float v : x) sum += std::pow(std::abs(v), order);
  return std::pow(sum, 1 / order);
}

inline float max_affine(Row dots, float scale, Row offset) {
  float largest = scale * dots[0] + offset[0];
  for (std::size_t j = 1; j < dots.size(); ++j)
    largest = std::max(largest, scale * dots[j] + offset[j]);
  return largest;
}

inline float log_sum_exp_affine(Row dots, float scale, Row offset) {
  const float largest = max_affine(dots, scale, offset);
  float sum = 0;
  for (std::size_t j = 0; j < dots.size(); ++j)
    sum += std::exp(scale * dots[j] + offset[j] - largest);
  return largest + std::log(sum);
}

/// The log-sum-exp of each column.
inline void column_log_sum_exp(const MatrixView& dots, Row scale, Row shift,
                               std::span<double> out) {
  for (Index j = 0; j < dots.cols(); ++j) {
    double largest = -1e300, sum = 0;
    for (Index i = 0; i < dots.rows(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      largest = std::max(largest, static_cast<double>(scale[at]) * dots(i, j) + shift[at]);
    }
    for (Index i = 0; i < dots.rows(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      sum += std::exp(static_cast<double>(scale[at]) * dots(i, j) + shift[at] - largest);
    }
    out[static_cast<std::size_t>(j)] = largest + std::log(sum);
  }
}

inline Index kth_nearest(Row dots, Row half_norms, std::size_t k) {
  std::vector<std::pair<float, Index>> keys;
  keys.reserve(dots.size());
  for (std::size_t j = 0; j < dots.size(); ++j)
    keys.emplace_back(half_norms[j] - dots[j], static_cast<Index>(j));
  const auto kth = keys.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::ranges::nth_element(keys, kth);
  return kth->second;
}

/// The share of pairs in the right order.
inline double auroc(std::span<const double> id, std::span<const double> ood) {
  double right = 0;
  for (const double a : id)
    for (const double b : ood) right += a > b ? 1 : a == b ? 0.5 : 0;
  return right / (static_cast<double>(id.size()) * static_cast<double>(ood.size()));
}

/// A function of scores drawn anew `resamples` times, each kind on its own.
template <class Metric>
auto bootstrap(std::span<const double> id, std::span<const double> ood, Index resamples,
               const Metric& metric) {
  std::mt19937 random(0);
  const auto drawn = [&random](std::span<const double> scores) {
    std::uniform_int_distribution<std::size_t> row(0, scores.size() - 1);
    std::vector<double> some(scores.size());
    std::ranges::generate(some, [&] { return scores[row(random)]; });
    return some;
  };
  std::vector<decltype(metric(id, ood))> values;
  for (Index r = 0; r < resamples; ++r) values.push_back(metric(drawn(id), drawn(ood)));
  return values;
}

}  // namespace ood::bench::naive
