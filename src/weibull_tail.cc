#include "ood/weibull_tail.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace ood {

namespace {

constexpr double kShift = 10'000;

/// sum_i exp(a l_i) and sum_i exp(a l_i) l_i.
std::pair<double, double> weigh(const VectorD& l, double a) {
  double sum = 0, weighted = 0;
  for (Index i = 0; i < l.size(); ++i) {
    const double weight = std::exp(a * l[i]);
    sum += weight;
    weighted += weight * l[i];
  }
  return {sum, weighted};
}

}  // namespace

WeibullTail WeibullTail::fit(std::span<const double> distances) {
  const auto [least, most] = std::ranges::minmax(distances);
  if (!(least < most))
    throw std::domain_error(fmt::format(
        "tail of {} distances has {} alone, expected 2 different ones", distances.size(), least));
  WeibullTail tail;
  tail.smallest = least;

  // l = log y up to a constant, the largest 0. The likelihood is greatest where
  //   g(shape) = sum y^shape l / sum y^shape - mean l - 1 / shape = 0.
  // g grows with the shape, and its first two terms lie in [0, -mean l]: the root is not below
  // 1 / -mean l, and bisection finds it.
  VectorD l(std::ssize(distances));
  for (Index i = 0; i < l.size(); ++i)
    l[i] = std::log1p((distances[static_cast<std::size_t>(i)] - least) / kShift);
  const double largest = l.maxCoeff();
  l.array() -= largest;
  const double mean = l.mean();
  const auto g = [&](double a) {
    const auto [sum, weighted] = weigh(l, a);
    return weighted / sum - mean - 1 / a;
  };
  double low = -1 / mean, high = 2 * low;
  while (g(high) < 0 && std::isfinite(high)) {
    low = high;
    high *= 2;
  }
  for (;;) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) break;
    (g(middle) < 0 ? low : high) = middle;
  }
  tail.shape = high;
  tail.log_scale = largest + std::log(weigh(l, high).first / static_cast<double>(l.size())) / high;
  return tail;
}

double WeibullTail::cdf(double distance) const {
  const double x = (distance - smallest) / kShift;
  if (x <= -1) return 0;
  return -std::expm1(-std::exp(shape * (std::log1p(x) - log_scale)));
}

}  // namespace ood
