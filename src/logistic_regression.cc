#include "ood/logistic_regression.h"

#include <algorithm>
#include <cmath>

#include "errors.h"

namespace ood {

namespace {

/// Rows, seen from their weighted mean. b' = b + <mean, v> is as free as b, so the minimum is the
/// same, and v and b' hardly depend on one another: conjugate gradients need fewer steps.
/// Parameters are (v, b') [d + 1].
class CenteredProblem {
 public:
  CenteredProblem(const MatrixD& x, VectorD sign, VectorD cost)
      : x_(x),
        sign_(std::move(sign)),
        cost_(std::move(cost)),
        mean_(x_.transpose() * cost_ / cost_.sum()) {}

  Index size() const { return x_.cols() + 1; }
  const VectorD& mean() const { return mean_; }

  /// <x_i - mean, v> + b', [n].
  VectorD margins(const VectorD& p) const {
    const auto v = p.head(x_.cols());
    VectorD margins = x_ * v;
    margins.array() += p[x_.cols()] - mean_.dot(v);
    return margins;
  }
  /// sum_i r_i (x_i - mean, 1).
  VectorD weighted_rows(const VectorD& r) const {
    VectorD sum(size());
    const double total = r.sum();
    sum.head(x_.cols()) = x_.transpose() * r - total * mean_;
    sum[x_.cols()] = total;
    return sum;
  }

  /// The size of the terms that a gradient is the sum of.
  double gradient_terms() const {
    double sum = 0;
    for (Index i = 0; i < x_.rows(); ++i)
      sum += cost_[i] * ((x_.row(i).transpose() - mean_).norm() + 1);
    return sum;
  }
  double objective(const VectorD& p, const VectorD& margins) const {
    double loss = 0;
    for (Index i = 0; i < margins.size(); ++i) {
      const double t = sign_[i] * margins[i];  // log(1 + exp(-t)) without overflow
      loss += cost_[i] * (std::max(-t, 0.0) + std::log1p(std::exp(-std::abs(t))));
    }
    return loss + 0.5 * p.head(x_.cols()).squaredNorm();
  }
  VectorD gradient(const VectorD& p, const VectorD& margins) const {
    VectorD slopes(margins.size());
    for (Index i = 0; i < margins.size(); ++i)
      slopes[i] = -cost_[i] * sign_[i] / (1 + std::exp(sign_[i] * margins[i]));
    VectorD gradient = weighted_rows(slopes);
    gradient.head(x_.cols()) += p.head(x_.cols());
    return gradient;
  }
  /// The second derivative of each row's loss by its margin, [n].
  VectorD curvatures(const VectorD& margins) const {
    const Eigen::ArrayXd e = (-margins.array().abs()).exp();
    return cost_.array() * e / (1 + e).square();
  }
  VectorD hessian_times(const VectorD& curvatures, const VectorD& p) const {
    VectorD product = weighted_rows(curvatures.cwiseProduct(margins(p)));
    product.head(x_.cols()) += p.head(x_.cols());
    return product;
  }
  VectorD hessian_diagonal(const VectorD& curvatures) const {
    VectorD diagonal = VectorD::Ones(size());
    for (Index i = 0; i < x_.rows(); ++i)
      diagonal.head(x_.cols()) += curvatures[i] * (x_.row(i).transpose() - mean_).cwiseAbs2();
    diagonal[x_.cols()] = std::max(curvatures.sum(), 1e-12 * cost_.sum());
    return diagonal;
  }

 private:
  const MatrixD& x_;
  VectorD sign_, cost_, mean_;  // s_i; C w_i
};

/// Preconditioned conjugate gradients for H step = -gradient, as far as `forcing` asks, relative to
/// the gradient. What it has after any number of steps is a direction in which the objective falls.
VectorD newton_direction(const CenteredProblem& problem, const VectorD& curvatures,
                         const VectorD& gradient, double forcing) {
  const VectorD diagonal = problem.hessian_diagonal(curvatures);
  VectorD step = VectorD::Zero(problem.size()), residual = -gradient;
  VectorD scaled = residual.cwiseQuotient(diagonal), direction = scaled;
  double size = residual.dot(scaled);
  const double enough = forcing * forcing * size;
  for (Index k = 0; k < std::max<Index>(20, 2 * problem.size()) && size > enough; ++k) {
    const VectorD product = problem.hessian_times(curvatures, direction);
    const double length = size / direction.dot(product);
    if (!(length > 0) || !std::isfinite(length)) break;
    step += length * direction;
    residual -= length * product;
    scaled = residual.cwiseQuotient(diagonal);
    const double next = residual.dot(scaled);
    direction = scaled + (next / size) * direction;
    size = next;
  }
  return step;
}

void check(const MatrixD& x, Labels labels, std::span<const double> sample_weights,
           const LogisticRegressionOptions& options) {
  const auto rows = static_cast<std::size_t>(x.rows());
  if (labels.size() != rows)
    throw_invalid("labels has {} entries, expected {} as x has rows", labels.size(), rows);
  if (!sample_weights.empty() && sample_weights.size() != rows)
    throw_invalid("sample_weights has {} entries, expected {} as x has rows", sample_weights.size(),
                  rows);
  if (!(options.c > 0) || !std::isfinite(options.c))
    throw_invalid("c has {}, expected a number above 0", options.c);
  if (!(options.tolerance >= 0))
    throw_invalid("tolerance has {}, expected 0 or more", options.tolerance);
  if (options.max_iterations < 1)
    throw_invalid("max_iterations has {}, expected 1 or more", options.max_iterations);
  if (rows == 0) throw std::domain_error("x has 0 rows, expected 1 or more");
  for (Index i = 0; i < x.rows(); ++i)
    for (Index j = 0; j < x.cols(); ++j)
      if (!std::isfinite(x(i, j)))
        throw_invalid("x has {} at row {}, column {}, expected finite numbers", x(i, j), i, j);
  double total[2] = {0, 0};
  for (std::size_t i = 0; i < rows; ++i) {
    if (labels[i] != 0 && labels[i] != 1)
      throw_invalid("labels has {} at row {}, expected 0 or 1", labels[i], i);
    const double weight = sample_weights.empty() ? 1 : sample_weights[i];
    if (!(weight >= 0) || !std::isfinite(weight))
      throw_invalid("sample_weights has {} at row {}, expected 0 or more", weight, i);
    total[labels[i]] += weight;
  }
  for (int label = 0; label < 2; ++label)
    if (total[label] == 0)
      throw std::domain_error(
          fmt::format("no row is labelled {}, expected rows of both 0 and 1", label));
}

}  // namespace

LogisticRegression fit_logistic_regression(const MatrixD& x, Labels labels,
                                           std::span<const double> sample_weights,
                                           const LogisticRegressionOptions& options) {
  check(x, labels, sample_weights, options);
  VectorD sign(x.rows()), cost(x.rows());
  for (Index i = 0; i < x.rows(); ++i) {
    const auto row = static_cast<std::size_t>(i);
    sign[i] = labels[row] == 1 ? 1 : -1;
    cost[i] = options.c * (sample_weights.empty() ? 1 : sample_weights[row]);
  }
  const CenteredProblem problem(x, sign, cost);

  VectorD p = VectorD::Zero(problem.size()), margins = problem.margins(p);
  VectorD gradient = problem.gradient(p, margins);
  double objective = problem.objective(p, margins);
  const double first = gradient.norm();
  // What rounding leaves of such terms: less cannot be asked for
  const double small = std::max(options.tolerance * first, 1e-15 * problem.gradient_terms());

  LogisticRegression result;
  result.converged = first <= small;
  while (!result.converged && result.iterations < options.max_iterations) {
    const double forcing = std::min(0.1, std::sqrt(gradient.norm() / first));
    const VectorD step = newton_direction(problem, problem.curvatures(margins), gradient, forcing);
    const double slope = gradient.dot(step);
    const VectorD change = problem.margins(step);
    // Halved until the objective falls; near the minimum its own rounding may hide that
    const auto objective_at = [&](double length) {
      return problem.objective(p + length * step, margins + length * change);
    };
    double length = 1;
    while (length > 1e-10 &&
           !(objective_at(length) <= objective * (1 + 1e-14) + 1e-4 * length * slope))
      length /= 2;
    if (length <= 1e-10 || !(slope < 0)) break;
    p += length * step;
    margins = problem.margins(p);
    objective = problem.objective(p, margins);
    gradient = problem.gradient(p, margins);
    ++result.iterations;
    result.converged = gradient.norm() <= small;
  }
  result.weight = p.head(x.cols());
  result.intercept = p[x.cols()] - problem.mean().dot(result.weight);
  return result;
}

}  // namespace ood
