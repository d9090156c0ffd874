/// ConjNorm's partition function in one to three dimensions by quadrature in float64.
#pragma once

#include <array>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "ood/detectors/conjnorm.h"

namespace ood::test {

using Point = Eigen::Matrix<double, Eigen::Dynamic, 1, 0, 3, 1>;  // up to three features

inline double norm(const Point& x, double q) {
  return std::pow(x.array().abs().pow(q).sum(), 1 / q);
}

/// What Phi integrates, for one class: the formula in float64.
struct Target {
  double q, t;
  Point mu, gradient;

  Target(const Point& mean, double p, double temperature)
      : q(p / (p - 1)), t(temperature), mu(mean / (norm(mean, p) + 1e-10)) {
    gradient = mu.array().sign() * mu.array().abs().pow(q - 1) * std::pow(norm(mu, q), 2 - q);
  }

  double half_square(const Point& z) const {
    const double size = norm(z, q);
    return size * size / 2;
  }
  /// exp(-d(z, mu) / t)
  double operator()(const Point& z) const {
    return std::exp(-(half_square(z) + half_square(mu) - z.dot(gradient)) / t);
  }
  /// The density of a proposal.
  double density(ConjNorm::Proposal proposal, const Point& z) const {
    constexpr double nu = 5, pi = std::numbers::pi;
    const auto dim = static_cast<double>(mu.size());
    const double square = (z - mu).squaredNorm() / t;
    switch (proposal) {
      case ConjNorm::Proposal::gaussian:
        return std::exp(-square / 2) / std::pow(2 * pi * t, dim / 2);
      case ConjNorm::Proposal::student_t:
        return std::tgamma((nu + dim) / 2) / std::tgamma(nu / 2) / std::pow(nu * pi * t, dim / 2) *
               std::pow(1 + square / nu, -(nu + dim) / 2);
      default: {  // matched: |z|_q < 1 has the volume (2 gamma(1 + 1/q))^D / gamma(1 + D/q)
        const double ball = std::pow(2 * std::tgamma(1 + 1 / q), dim) / std::tgamma(1 + dim / q);
        return std::exp(-half_square(z - mu) / t) /
               (ball * std::tgamma(dim / 2 + 1) * std::pow(2 * t, dim / 2));
      }
    }
  }
};

/// Nodes and weights of Gauss and Legendre on (0, 1), the roots by Newton's method.
inline std::vector<std::pair<double, double>> gauss_legendre(int count) {
  std::vector<std::pair<double, double>> rule;
  for (int i = 0; i < count; ++i) {
    double x = std::cos(std::numbers::pi * (i + 0.75) / (count + 0.5)), slope = 0;
    for (int step = 0; step < 8; ++step) {
      double before = 1, value = x;
      for (int k = 2; k <= count; ++k)
        before = std::exchange(value, ((2 * k - 1) * x * value - (k - 1) * before) / k);
      slope = count * (x * value - before) / (x * x - 1);
      x -= value / slope;
    }
    rule.emplace_back((1 + x) / 2, 1 / ((1 - x * x) * slope * slope));
  }
  return rule;
}

/// Calls visit(z, weight) for the nodes of a rule over R^D, for what falls off as `target` does: by
/// Hoelder's inequality at least as fast as exp(-(|z|_q - |mu|_q)^2 / 2t), so a cube is enough.
/// |z_i|^q has a kink at 0: axes are split there, and z_i = +-radius s^2 makes it a mild one.
template <class Visit>
void for_each_node(const Target& target, int nodes, const Visit& visit) {
  const double radius = norm(target.mu, target.q) + 7 * std::sqrt(target.t);
  std::vector<std::pair<double, double>> axis;
  for (const auto& [s, weight] : gauss_legendre(nodes))
    for (const double sign : {-1, 1})
      axis.emplace_back(sign * radius * s * s, 2 * radius * s * weight);

  Point z(target.mu.size());
  std::array<std::size_t, 3> at{};
  while (true) {
    double weight = 1;
    for (Index j = 0; j < z.size(); ++j) {
      z[j] = axis[at[static_cast<std::size_t>(j)]].first;
      weight *= axis[at[static_cast<std::size_t>(j)]].second;
    }
    visit(z, weight);
    std::size_t j = 0;
    while (++at[j] == axis.size()) {
      at[j] = 0;
      if (++j == static_cast<std::size_t>(z.size())) return;
    }
  }
}

inline double quadrature(const Target& target, int nodes = 40) {
  double sum = 0;
  for_each_node(target, nodes, [&](const Point& z, double weight) { sum += weight * target(z); });
  return sum;
}

/// Of the importance weights, whose mean is Phi: variance / Phi^2, and kurtosis.
struct Spread {
  double variance, kurtosis;
};
inline Spread spread(const Target& target, ConjNorm::Proposal proposal) {
  std::array<double, 5> moments{};
  for_each_node(target, target.mu.size() == 3 ? 16 : 40, [&](const Point& z, double weight) {
    const double density = target.density(proposal, z), w = target(z) / density;
    double term = weight * density;
    for (double& moment : moments) moment += std::exchange(term, term * w);
  });
  const double mean = moments[1] / moments[0];
  double scale = moments[0];
  for (double& moment : moments) moment /= std::exchange(scale, scale * mean);
  const double variance = moments[2] - 1;
  return {variance, (moments[4] - 4 * moments[3] + 6 * moments[2] - 3) / (variance * variance)};
}

}  // namespace ood::test
