/// A Weibull distribution fitted to the largest of many distances: extreme value theory.
#pragma once

#include <span>

#include "ood/matrix.h"

namespace ood {

/// The Weibull distribution of greatest likelihood for y = 10000 + d - d_min over a tail of
/// distances d, as libMR shifts them:
///
///   F(d) = 1 - exp(-(y / scale)^shape) for y > 0, else 0
///
/// Computed from log1p((d - d_min) / 10000), so that nothing cancels beside the 10000.
struct WeibullTail {
  double smallest = 0;  ///< d_min
  double shape = 1;
  double log_scale = 0;  ///< log(scale / 10000)

  /// Throws std::domain_error if all distances are the same: no shape is finite then.
  static WeibullTail fit(std::span<const double> distances);
  double cdf(double distance) const;
};

}  // namespace ood
