#pragma once

#include "ood/matrix.h"

namespace ood {

/// A fitted logistic regression: P(label = 1 | x) = 1 / (1 + exp(-(<x, weight> + intercept))).
struct LogisticRegression {
  VectorD weight;  ///< [d]
  double intercept = 0;
  Index iterations = 0;    ///< Newton steps
  bool converged = false;  ///< the gradient is as small as asked for
};

struct LogisticRegressionOptions {
  double c = 1;              ///< C above 0: inverse strength of the l2 penalty
  double tolerance = 1e-10;  ///< of the gradient's norm, relative to that at 0
  Index max_iterations = 100;
};

/// l2-regularised binary logistic regression: the minimum over v [d] and b of
///
///   C sum_i w_i log(1 + exp(-s_i (<x_i, v> + b))) + |v|_2^2 / 2,   s_i = 2 label_i - 1
///
/// x [n, d]; labels [n], 0 or 1; sample_weights w [n], >= 0, or none: all 1. The intercept b is not
/// penalised. The objective is that of scikit-learn's LogisticRegression.
///
/// Truncated Newton: steps by conjugate gradients on products with the Hessian, which is never
/// made; the objective falls in each, so that the minimum, which is unique, is found from 0 on
/// separable data too. All in float64, on the calling thread, the same bits every time. O(n d) for
/// each of some 10 Newton steps times 5 to 100 products; memory O(n + d).
///
/// errors std::invalid_argument: shapes, a label that is not 0 or 1, NaN or infinity, a negative
///        weight, options out of range. std::domain_error: no rows; no row of positive weight of
///        one of the classes.
LogisticRegression fit_logistic_regression(const MatrixD& x, Labels labels,
                                           std::span<const double> sample_weights = {},
                                           const LogisticRegressionOptions& options = {});

}  // namespace ood
