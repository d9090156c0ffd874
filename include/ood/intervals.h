/// How far a metric of ood/metrics.h may be off because the ID and OOD samples are finite.
///
/// Scores are confidences: higher = more in-distribution, as in ood/metrics.h; equal scores are ties
/// and +-infinity ranks as it should. n ID and m OOD scores are taken for independent draws.
///
/// errors std::invalid_argument: NaN (says which array and where), fewer than two scores of a kind
/// (their spread is not known), a level out of (0, 1), what the functions say besides.
#pragma once

#include <cstdint>

#include "ood/exec.h"
#include "ood/metrics.h"
#include "ood/score_bins.h"

namespace ood {

struct Ranking;

/// A value, and the interval that covers the true one in a share `level` of repetitions.
struct Interval {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// AUROC with DeLong's interval: A +- z sd, clipped to [0, 1], z the standard normal quantile at
/// (1 + level) / 2 (what pROC's ci.auc prints). With the share of OOD scores that an ID score
/// beats, ties counting half, and the share of ID scores that beat an OOD score,
///
///   u_i = 1/m sum_j [x_i > y_j] + [x_i = y_j] / 2,   v_j = 1/n sum_i [x_i > y_j] + [x_i = y_j] / 2
///   A   = mean u = mean v = auroc(id, ood),          sd^2 = Var u / n + Var v / m
///
/// Var with divisors n - 1 and m - 1. Where the variance is 0, the interval is the point: [1, 1]
/// where the scores are separated, [0.5, 0.5] where all are equal; that says nothing of the true
/// value. cost O((n + m) log(n + m)).
///
/// For few scores, most of all near 1, the interval is too short. Share of 10,000 draws of normal
/// scores whose 95 % interval held the true AUROC, n = m:
///
///   n         50    200    1,000   5,000
///   A = 0.85  0.93  0.95   0.95
///   A = 0.99  0.80  0.91   0.94    0.95
///
/// Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988). The u_i and v_j are counted in
/// sorted scores, not from the midranks of Sun & Xu, IEEE Signal Processing Letters 21 (2014), which
/// give the same numbers.
Interval auroc_interval(Scores id, Scores ood, double level = 0.95);

/// The same of counts in bins, as if all scores of a bin were equal: value and variance are those of such
/// scores. How far that may be from the value of the scores themselves, see binned_metrics(); it is in no
/// interval. cost O(bins). Throws std::invalid_argument, besides, as binned_metrics().
Interval auroc_interval(BinCounts id, BinCounts ood, double level = 0.95);

/// The unweighted mean of the AUROCs of several sets of outliers against the same n ID scores, whose
/// estimates are therefore dependent. With u_ik, v_jk of set k (see auroc_interval) and K sets of
/// m_k scores,
///
///   sd^2 = Var_i(1/K sum_k u_ik) / n + 1/K^2 sum_k Var_j(v_jk) / m_k
///
/// The same as auroc_interval for one set. Keeps two doubles for each distinct ID score, or bin.
class MeanAuroc {
 public:
  /// id: the same scores each time, in any order. Throws std::invalid_argument, besides, if they are seen to
  /// differ from those of the first set: in their number, or in how many of them are equal.
  void add(Scores id, Scores ood);
  /// The same of counts in bins, as auroc_interval takes them.
  void add(BinCounts id, BinCounts ood);
  /// Throws std::invalid_argument, besides, if no set was added.
  Interval interval(double level = 0.95) const;

 private:
  friend class DetectorResults;  // ranks scores once for all that it reports of them
  void add(const Ranking& ranking);

  Index sets_ = 0;
  double sum_ = 0;           // of the AUROCs
  double ood_variance_ = 0;  // sum_k Var_j(v_jk) / m_k
  VectorD id_shares_;        // [distinct ID scores, ascending] sum_k u_ik
  VectorD id_counts_;        // how many scores have that share
};

struct BootstrapOptions {
  Index resamples = 2000;  ///< 2 or more
  std::uint64_t seed = 0;
  double level = 0.95;
  double tpr = 0.95;  ///< of fpr and fpr_ood
  Exec exec{};
};

/// Named as the functions of ood/metrics.h: fpr is fpr_at_tpr and fpr_ood is fpr_at_tpr_ood, both at
/// BootstrapOptions::tpr.
struct MetricIntervals {
  Interval auroc;
  Interval fpr;
  Interval fpr_ood;
  Interval aupr_in;
  Interval aupr_out;
  Interval aupr_in_trapezoid;
  Interval aupr_out_trapezoid;
};

/// All metrics with percentile intervals of the stratified bootstrap: a resample draws n ID and m
/// OOD scores from those given, with replacement, each kind on its own; low and high are the
/// percentiles 100 (1 -+ level) / 2 of the metric over the resamples, as numpy.percentile
/// interpolates. `value` is the metric of the scores given. What is drawn depends on seed and number
/// of the resample alone: the same bits for any number of threads. Rows are drawn by 32-bit numbers:
/// up to 2^32 of a kind, and the chance of a row is 1 / n to n 2^-32 of itself.
///
/// For few scores the intervals of the areas are too short, as DeLong's are: of 4,000 draws of
/// normal scores, 500 resamples each, the 95 % intervals held the truth in these shares.
///
///   n = m     50, AUROC 0.85   200, AUROC 0.85   200, AUROC 0.99
///   auroc     0.94             0.94              0.92
///   fpr       0.95             0.95              0.95
///   aupr_in   0.91             0.94              0.91
///
/// Sorts once; a resample is O(n + m) on counts. cost O((n + m) (log(n + m) + resamples)).
///
/// Throws std::invalid_argument, besides, if tpr is out of (0, 1] or there are fewer than two
/// resamples.
///
/// Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13.
MetricIntervals bootstrap_intervals(Scores id, Scores ood, const BootstrapOptions& options = {});

/// AUROCs of two scores a and b of the same rows. difference: auroc_a - auroc_b with its interval.
struct Comparison {
  double auroc_a = 0;
  double auroc_b = 0;
  Interval difference;
  double sd = 0;  ///< of the difference
  double z = 0;
  double p_value = 0;
};

/// DeLong's paired test of two scores of the same rows, and the interval of the difference, clipped
/// to [-1, 1]. With the u_i and v_j of a and of b (see auroc_interval),
///
///   sd^2 = Var(u_a - u_b) / n + Var(v_a - v_b) / m,   z = (A_a - A_b) / sd,   p = P(|N(0, 1)| >= |z|)
///
/// Where sd is 0: z = 0 and p = 1 if the AUROCs are equal, else z = +-infinity and p = 0; the latter
/// takes all rows to agree, as where a separates ID from OOD and b is constant.
///
/// Throws std::invalid_argument, besides, if a and b have not the same numbers of scores.
///
/// Source: DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988).
Comparison compare_auroc(Scores id_a, Scores ood_a, Scores id_b, Scores ood_b, double level = 0.95);

/// The same where a and b are scores of different rows, drawn independently:
///
///   sd^2 = sd_a^2 + sd_b^2, each as in auroc_interval
///
/// Of rows that the two share, the variance is mostly too large, and a difference is found less often.
/// z is compared with the normal distribution, where pROC's roc.test(paired = FALSE) takes Student's.
Comparison compare_auroc_unpaired(Scores id_a, Scores ood_a, Scores id_b, Scores ood_b,
                                  double level = 0.95);

}  // namespace ood
