/// Whether the scores of a window of rows are still those of the calibration rows.
///
/// In all tests the null hypothesis is that rows of the window and calibration rows are independent
/// draws of one distribution. A small p-value says that they are not; it does not say that rows are
/// out-of-distribution: see Calibration::p_value() for single rows.
///
/// errors std::invalid_argument: NaN among the scores (says where), no scores on one side, a level out
/// of (0, 1), an alpha out of [0, 1), a count out of range.
#pragma once

#include "ood/intervals.h"
#include "ood/threshold.h"

namespace ood {

/// A two-sample Kolmogorov-Smirnov test.
struct KolmogorovSmirnov {
  double statistic = 0;  ///< D
  double p_value = 0;
  bool exact = false;  ///< of P(D >= d), see kolmogorov_smirnov()
};

/// D = sup_x |F(x) - G(x)|, with F and G the shares of the n calibration and of the m window scores
/// that are <= x, and p = P(D >= d) under the null hypothesis. Infinite scores rank as they should.
///
/// D is exact if the sample kept all scores; else it is the least D that agrees with what was kept, too
/// small by 1 / 65,536 at most, which makes p larger, never smaller.
///
/// p is exact for scores without ties if n m <= 1,000,000: all orders of the n + m scores are as likely,
/// and the share of those that reach d is summed along the paths of a lattice (Hodges). Beyond that it is
/// Kolmogorov's limit with Stephens' correction,
///
///   Q(l) = 2 sum_{k >= 1} (-1)^(k - 1) exp(-2 k^2 l^2),   l = (s + 0.12 + 0.11 / s) d,
///   s = sqrt(n m / (n + m))
///
/// which, with 20 rows or more on each side, was 0.92 to 1.06 times the exact p wherever that is 0.001 or
/// more (10 pairs of sizes from 1,000 x 1,000 to 65,536 x 50 against scipy.stats.ks_2samp).
///
/// Ties make p too large, never too small: the test is conservative.
///
/// cost O(m log(m n)), and O(n m) where p is exact; memory m doubles.
///
/// Source: Hodges, The significance probability of the Smirnov two-sample test, Arkiv for Matematik 3
/// (1958); Stephens, J. Royal Statistical Society B 32 (1970), for one sample, with n m / (n + m) for
/// its size.
KolmogorovSmirnov kolmogorov_smirnov(const ScoreSample& calibration, Scores window);

/// How far the mean of the scores moved.
struct MeanShift {
  double calibration_mean = 0;
  double window_mean = 0;
  Interval shift;           ///< window - calibration, in the units of the scores
  double standardized = 0;  ///< the same in standard deviations of the calibration scores
  double t = 0;
  double degrees_of_freedom = 0;
  double p_value = 0;  ///< two-sided
};

/// Welch's test of two means. With variances a of the n calibration and b of the m window scores
/// (divisors n - 1 and m - 1),
///
///   t = (mean of window - mean of calibration) / se,   se^2 = a / n + b / m,
///   v = se^4 / ((a / n)^2 / (n - 1) + (b / m)^2 / (m - 1)),   p = P(|T_v| >= |t|),
///
/// T_v of Student's distribution with v degrees of freedom; the interval is shift +- q se with
/// P(|T_v| <= q) = level. Exact for normal scores alone; for others it is as good as the means are
/// normal. The relative error of p is below 1e-8.
///
/// Where se is 0: t = 0 and p = 1 if the means are equal, else t = +-infinity and p = 0; v is NaN, the
/// interval a point. Where a score is infinite, nothing but the means and their difference is given, and
/// the rest is NaN; where one side has a single score, so is what needs its spread.
///
/// Source: Welch, Biometrika 34 (1947).
MeanShift mean_shift(const ScoreSample& calibration, Scores window, double level = 0.95);

/// The share count / rows with Clopper and Pearson's interval, which covers the true share of
/// independent rows in at least a share `level` of repetitions:
///
///   low  = the q-quantile of Beta(count, rows - count + 1),  q = (1 - level) / 2; 0 for count = 0
///   high = the (1 - q)-quantile of Beta(count + 1, rows - count); 1 for count = rows
///
/// Relative error below 1e-8. Source: Clopper & Pearson, Biometrika 26 (1934).
Interval share_interval(Index count, Index rows, double level = 0.95);

/// P(as many rejects or more) under the null hypothesis, of `rows` rows that were compared with the same
/// `calibration_rows` calibration rows, not by class, and are rejected if their p-value is <= alpha.
///
/// Those are the rows below the k-th lowest calibration score, k = floor(alpha (n + 1)), and their number
/// is beta-binomial, with k and n + 1 - k: more spread than the binomial one, as the threshold itself is
/// an estimate. Exact for scores without ties of which the calibration kept all; else too large, never
/// too small. cost O(rows).
///
/// Source: order statistics of a pooled sample, see Vovk, Conditional validity of inductive conformal
/// predictors, Machine Learning 92 (2013), proposition 2a.
double rejects_p_value(Index rejected, Index rows, Index calibration_rows, double alpha);

}  // namespace ood
