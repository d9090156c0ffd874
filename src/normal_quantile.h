/// The quantile of the standard normal distribution that intervals need.
#pragma once

#include <cmath>
#include <numbers>

namespace ood {

/// z >= 0 with P(|N(0, 1)| <= z) = level, for level in (0, 1), to a few units in the last place.
inline double normal_two_sided(double level) {
  // Newton's steps from 0. What is solved for falls and is convex, so that they never pass the root
  // and end where rounding stops them. It is taken from the side where it does not cancel.
  const auto missing = [level](double z) {
    const double x = z / std::numbers::sqrt2;
    return level < 0.5 ? level - std::erf(x) : std::erfc(x) - (1 - level);
  };
  const double density_at_0 = std::sqrt(2 / std::numbers::pi);  // of |N(0, 1)|
  double z = 0;
  for (;;) {
    const double next = z + missing(z) / (density_at_0 * std::exp(-z * z / 2));
    if (!(next > z)) return z;
    z = next;
  }
}

}  // namespace ood
