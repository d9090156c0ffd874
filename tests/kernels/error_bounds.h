/// What the error bounds of ood/kernels.h are made of.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "ood/kernels.h"

namespace ood::test {

/// u, the unit roundoff of float32.
inline constexpr double kUnit = 0x1p-24;
/// The distance of the smallest float32 numbers: what underflow may cost at most, for each term.
inline constexpr double kUnderflow = 0x1p-149;

/// How many float32 entries the SIMD target in use adds at once: a sum has so many partial sums.
inline double lanes() {
  static const double count = [] {
    const std::string target = kernels::simd_target();
    if (target == "SCALAR") return 1;
    if (target == "AVX2") return 8;
    return target.starts_with("AVX3") ? 16 : 4;
  }();
  return count;
}

/// A float64 reference and how far off a result may be.
struct Expected {
  double value;
  double error;
};

/// The error as a share of the allowed one; infinite where a result is not a number and should be.
inline double share_of_allowed(double got, const Expected& expected) {
  if (got == expected.value) return 0;
  const double error = std::abs(got - expected.value);
  return std::isnan(error) || expected.error == 0 ? std::numeric_limits<double>::infinity()
                                                  : error / expected.error;
}

}  // namespace ood::test
