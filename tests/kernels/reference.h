/// The row kernels, straight from their formulas, in scalar float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

namespace ood::test::reference {

using Row = std::span<const float>;

inline double max(Row x) { return *std::ranges::max_element(x); }

inline double log_sum_exp(Row x, double temperature) {
  const double largest = max(x);
  double sum = 0;
  for (const float v : x) sum += std::exp((v - largest) / temperature);
  return largest + temperature * std::log(sum);
}

/// p = softmax(x / T) in descending order. 1 - p of the largest is taken from the others: where
/// p -> 1, even float64 cancels.
struct Softmax {
  std::vector<double> log_p;
  double log_rest;  // log(1 - p) of the first

  explicit Softmax(Row x, double temperature = 1) : log_p(x.begin(), x.end()) {
    for (double& v : log_p) v /= temperature;
    std::ranges::sort(log_p, std::greater<>());
    const double largest = log_p[0], second = log_p.size() > 1 ? log_p[1] : largest;
    double others = 0;
    for (std::size_t j = 1; j < log_p.size(); ++j) others += std::exp(log_p[j] - second);
    const double log_others = second - largest + std::log(others);
    const double log_sum = std::log1p(std::exp(log_others));
    for (double& v : log_p) v -= largest + log_sum;
    log_p[0] = -log_sum;
    log_rest = log_others - log_sum;
  }
};

inline double log_max_probability(Row x, double temperature) {
  return Softmax(x, temperature).log_p[0];
}

inline double log_odds(Row x, double temperature) {
  const Softmax p(x, temperature);
  return p.log_p[0] - p.log_rest;
}

/// sum |p - 1 / d| by twice what is above: with t_j = exp((x_j - max) / T) - 1, the sum of t_j - mean t.
inline double distance_from_uniform(Row x, double temperature) {
  const double largest = max(x), length = static_cast<double>(x.size());
  std::vector<double> t;
  double sum = 0, above = 0;
  for (const float v : x) sum += t.emplace_back(std::expm1((v - largest) / temperature));
  for (const double v : t) above += std::max(v - sum / length, 0.0);
  return 2 * above / (length + sum);
}

inline float kth_largest(Row x, std::size_t k) {
  std::vector<float> sorted(x.begin(), x.end());
  std::ranges::sort(sorted, std::greater<>());
  return sorted[k - 1];
}

inline double sum_above(Row x, float t) {
  double sum = 0;
  for (const float v : x) sum += std::max(static_cast<double>(v) - static_cast<double>(t), 0.0);
  return sum;
}

inline double sum_of_absolutes(Row x) {
  double sum = 0;
  for (const float v : x) sum += std::abs(static_cast<double>(v));
  return sum;
}

inline double absolute_distance(Row x, Row y) {
  double sum = 0;
  for (std::size_t j = 0; j < x.size(); ++j)
    sum += std::abs(static_cast<double>(x[j]) - static_cast<double>(y[j]));
  return sum;
}

/// sum p^2 - 1, as a sum of p (1 - p): no cancellation.
inline double negative_gini(Row x, double temperature) {
  const Softmax p(x, temperature);
  double sum = std::exp(p.log_p[0] + p.log_rest);
  for (std::size_t j = 1; j < p.log_p.size(); ++j)
    sum += std::exp(p.log_p[j]) * -std::expm1(p.log_p[j]);
  return -sum;
}

inline double divergence_from_uniform(Row x) {
  const auto length = static_cast<double>(x.size());
  double sum = 0;
  for (const double log_p : Softmax(x).log_p) sum += log_p / length;
  return -sum - std::log(length);
}

inline double negative_entropy(Row x) {
  double sum = 0;
  for (const double log_p : Softmax(x).log_p) sum += std::exp(log_p) * log_p;
  return sum;
}

/// The terms p^gamma (1 - p)^gamma of the `top` largest, each with its log p.
struct EntropyTerm {
  double value, log_p;
};
inline std::vector<EntropyTerm> generalized_entropy_terms(Row x, double gamma, std::size_t top) {
  const Softmax p(x);
  std::vector<EntropyTerm> terms;
  for (std::size_t j = 0; j < std::min(top, x.size()); ++j) {
    const double log_q = j == 0 ? p.log_rest : std::log1p(-std::exp(p.log_p[j]));
    terms.push_back({std::exp(gamma * (p.log_p[j] + log_q)), p.log_p[j]});
  }
  return terms;
}

inline double norm(Row x, double order) {
  double largest = 0, sum = 0;
  for (const float v : x) largest = std::max(largest, std::abs(static_cast<double>(v)));
  if (largest == 0) return 0;
  for (const float v : x) sum += std::pow(std::abs(static_cast<double>(v)) / largest, order);
  return largest * std::pow(sum, 1 / order);
}

inline double dot(Row x, Row y) {
  double sum = 0;
  for (std::size_t j = 0; j < x.size(); ++j) sum += static_cast<double>(x[j]) * y[j];
  return sum;
}

/// sum_j |x_j y_j|
inline double absolute_dot(Row x, Row y) {
  double sum = 0;
  for (std::size_t j = 0; j < x.size(); ++j) sum += std::abs(static_cast<double>(x[j]) * y[j]);
  return sum;
}

inline double squared_distance(Row x, Row y) {
  double sum = 0;
  for (std::size_t j = 0; j < x.size(); ++j) {
    const double difference = static_cast<double>(x[j]) - y[j];
    sum += difference * difference;
  }
  return sum;
}

}  // namespace ood::test::reference
