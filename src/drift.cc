#include "ood/drift.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <unsupported/Eigen/SpecialFunctions>
#include <vector>

#include "errors.h"
#include "ranking.h"

namespace ood {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kMostExactPaths = 1e6;  // n m up to which the p-value is exact

void require(const char* function, const ScoreSample& calibration, Scores window) {
  if (calibration.rows() == 0)
    throw_invalid("{}: calibration has no scores, expected 1 or more", function);
  require_scores(function, "window", window);
}

void require_level(const char* function, double level) {
  if (!(level > 0 && level < 1))
    throw_invalid("{}: level is {}, expected a share in (0, 1)", function, level);
}

/// P(D >= d) of samples of n and m scores without ties, d = distance / (n m) and distance > 0.
///
/// Read in their order, the scores of both samples are a path from (0, 0) to (n, m), and all paths are
/// as likely. Of those that end in (i, j), a share i / (i + j) comes from (i - 1, j).
double exact_p_value(Index n, Index m, double distance) {
  std::vector<double> reached(static_cast<std::size_t>(m) + 1);  // share of the paths to (i, j)
  for (Index i = 0; i <= n; ++i)
    for (Index j = 0; j <= m; ++j) {
      const auto x = static_cast<double>(i), y = static_cast<double>(j);
      double& here = reached[static_cast<std::size_t>(j)];
      if (std::abs(x * static_cast<double>(m) - y * static_cast<double>(n)) >= distance)
        here = 1;
      else if (j > 0)
        here = (x * here + y * reached[static_cast<std::size_t>(j) - 1]) / (x + y);
    }
  return reached.back();
}

/// Kolmogorov's Q(l), by the series that converges fast.
double kolmogorov_tail(double l) {
  if (l <= 0) return 1;
  double sum = 0;
  if (l < 1) {  // 1 - Q, of theta functions
    const double x = -std::numbers::pi * std::numbers::pi / (8 * l * l);
    for (const double odd : {1., 3., 5., 7.}) sum += std::exp(x * odd * odd);
    return 1 - std::sqrt(2 * std::numbers::pi) / l * sum;
  }
  for (const double k : {1., 2., 3., 4.})
    sum += (std::fmod(k, 2) == 1 ? 2 : -2) * std::exp(-2 * k * k * l * l);
  return sum;
}

/// x with P(Beta(a, b) <= x) = p, to the accuracy of betainc.
double beta_quantile(double p, double a, double b) {
  double low = 0, high = 1;
  for (;;) {
    const double middle = (low + high) / 2;
    if (middle <= low || middle >= high) return middle;
    (Eigen::numext::betainc(a, b, middle) < p ? low : high) = middle;
  }
}

}  // namespace

KolmogorovSmirnov kolmogorov_smirnov(const ScoreSample& calibration, Scores window) {
  require("kolmogorov_smirnov", calibration, window);
  std::vector<double> sorted(window.begin(), window.end());
  std::ranges::sort(sorted);
  const auto n = static_cast<double>(calibration.rows()), m = static_cast<double>(sorted.size());

  // F rises and G stands still between two scores of the window: the supremum is at one of them, or
  // just below it. Counts are whole numbers: distance = n m D is exact below 2^53.
  double distance = 0;
  const auto compare = [&](double lowest, double highest, double in_window) {
    const double g = in_window * n;
    distance = std::max({distance, lowest * m - g, g - highest * m});
  };
  for (std::size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    const double score = sorted[begin];
    while (end < sorted.size() && sorted[end] == score) ++end;
    if (const double below = std::nextafter(score, -kInf); below < score)
      compare(static_cast<double>(calibration.at_most_low(below)),
              static_cast<double>(calibration.at_most_high(below)), static_cast<double>(begin));
    compare(static_cast<double>(calibration.at_most_low(score)),
            static_cast<double>(calibration.at_most_high(score)), static_cast<double>(end));
  }

  KolmogorovSmirnov test{.statistic = distance / (n * m), .p_value = 1, .exact = false};
  test.exact =
      n * m <= kMostExactPaths;  // then all scores were kept, or nearly: d is not too large
  if (distance == 0) return test;
  if (test.exact) {
    test.p_value = std::min(exact_p_value(calibration.rows(), std::ssize(sorted), distance), 1.);
  } else {
    const double s = std::sqrt(n * m / (n + m));
    test.p_value = std::clamp(kolmogorov_tail((s + 0.12 + 0.11 / s) * test.statistic), 0., 1.);
  }
  return test;
}

MeanShift mean_shift(const ScoreSample& calibration, Scores window, double level) {
  constexpr auto kFunction = "mean_shift";
  require(kFunction, calibration, window);
  require_level(kFunction, level);
  const Eigen::Map<const Eigen::ArrayXd> scores(window.data(), std::ssize(window));
  const auto n = static_cast<double>(calibration.rows()), m = static_cast<double>(window.size());
  MeanShift found{.calibration_mean = calibration.mean(),
                  .window_mean = scores.mean(),
                  .shift = {},
                  .standardized = kNaN,
                  .t = kNaN,
                  .degrees_of_freedom = kNaN,
                  .p_value = kNaN};
  const double shift = found.window_mean - found.calibration_mean;
  found.shift = {shift, kNaN, kNaN};
  // 0 / 0 is no shift at all
  const auto in_units_of = [shift](double unit) { return shift == 0 ? 0 : shift / unit; };
  if (!std::isfinite(shift)) return found;
  if (n >= 2) found.standardized = in_units_of(std::sqrt(calibration.variance()));
  if (n < 2 || m < 2) return found;

  const double a = calibration.variance() / n;
  const double b = (scores - found.window_mean).square().sum() / (m - 1) / m;
  const double error = std::sqrt(a + b);
  found.t = in_units_of(error);
  if (error == 0) {
    found.p_value = shift == 0 ? 1 : 0;
    found.shift = {shift, shift, shift};
    return found;
  }
  const double share = a / (a + b);
  const double v = 1 / (share * share / (n - 1) + (1 - share) * (1 - share) / (m - 1));
  found.degrees_of_freedom = v;
  found.p_value = Eigen::numext::betainc(v / 2, 0.5, v / (v + found.t * found.t));
  const double x = beta_quantile(level, 0.5, v / 2);  // T^2 / (v + T^2) is Beta(1/2, v/2)
  const double half = std::sqrt(v * x / (1 - x)) * error;
  found.shift = {shift, shift - half, shift + half};
  return found;
}

Interval share_interval(Index count, Index rows, double level) {
  constexpr auto kFunction = "share_interval";
  require_level(kFunction, level);
  if (rows < 1) throw_invalid("{}: rows is {}, expected 1 or more", kFunction, rows);
  if (count < 0 || count > rows)
    throw_invalid("{}: count is {}, expected 0 to {}", kFunction, count, rows);
  const auto c = static_cast<double>(count), n = static_cast<double>(rows);
  const double q = (1 - level) / 2;
  return {c / n, count == 0 ? 0 : beta_quantile(q, c, n - c + 1),
          count == rows ? 1 : beta_quantile(1 - q, c + 1, n - c)};
}

double rejects_p_value(Index rejected, Index rows, Index calibration_rows, double alpha) {
  constexpr auto kFunction = "rejects_p_value";
  if (!(alpha >= 0 && alpha < 1))
    throw_invalid("{}: alpha is {}, expected a share in [0, 1)", kFunction, alpha);
  if (calibration_rows < 1)
    throw_invalid("{}: calibration_rows is {}, expected 1 or more", kFunction, calibration_rows);
  if (rows < 1) throw_invalid("{}: rows is {}, expected 1 or more", kFunction, rows);
  if (rejected < 0 || rejected > rows)
    throw_invalid("{}: rejected is {}, expected 0 to {}", kFunction, rejected, rows);

  const auto n = static_cast<double>(calibration_rows), m = static_cast<double>(rows);
  // the largest k with k / (n + 1) <= alpha, decided as Calibration decides
  double k = std::floor(alpha * (n + 1));
  while (k > 0 && k / (n + 1) > alpha) --k;
  while (k < n && (k + 1) / (n + 1) <= alpha) ++k;
  if (k == 0) return rejected == 0 ? 1 : 0;

  // Probabilities in units of the largest one, from it down both sides: no factorials, which would cost
  // digits.
  const auto ratio = [&](double r) {  // P(r + 1) / P(r)
    return (k + r) / (r + 1) * ((m - r) / (n - k + m - r));
  };
  const double least = static_cast<double>(rejected);
  const double mode =  // ratio(r) < 1 from here on
      n > 1 ? std::clamp(std::ceil((m * (k - 1) - (n - k)) / (n - 1)), 0., m) : 0;
  double all = 0, tail = 0;
  const auto add = [&](double r, double weight) {
    all += weight;
    if (r >= least) tail += weight;
  };
  double weight = 1;
  for (double r = mode; weight > 0 && r <= m; ++r) {
    add(r, weight);
    if (r < m) weight *= ratio(r);
  }
  weight = 1;
  for (double r = mode - 1; weight > 0 && r >= 0; --r) {
    weight /= ratio(r);
    add(r, weight);
  }
  return tail / all;
}

}  // namespace ood
