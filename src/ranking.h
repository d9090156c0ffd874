/// Scores of two kinds in their order, as counts: what every metric of ood/metrics.h is a function of.
#pragma once

#include <cstdint>
#include <vector>

#include "ood/intervals.h"
#include "ood/metrics.h"
#include "ood/score_bins.h"

namespace ood {

/// How many scores share one value. ID or OOD is "positive": see ranking().
struct Tie {
  std::int64_t positives = 0;
  std::int64_t negatives = 0;
};

/// All scores, the most positive value first, one entry for each distinct value: none is empty.
struct Ranking {
  std::vector<Tie> ties;
  std::int64_t positives = 0;
  std::int64_t negatives = 0;
};

/// Throws std::invalid_argument if there are fewer than `least` scores or one is NaN.
void require_scores(const char* function, const char* array, Scores scores, std::int64_t least = 1);
/// Throws std::invalid_argument if they are not of one odd number of bins, a count is below 0, or either has
/// fewer than `least` scores.
void require_counts(const char* function, BinCounts id, BinCounts ood, std::int64_t least = 1);
/// Throws std::invalid_argument if tpr is out of (0, 1].
void require_rate(const char* function, double tpr);

/// A whole number for each score that is not NaN, in the order of the scores: equal ones, such as -0
/// and +0, have one.
std::int64_t order_key(double score);
/// The keys of all scores, ascending. Highway sorts them on the SIMD target in use, several times
/// faster than std::sort but on SCALAR. As whole numbers, as its sort of floating point puts other
/// numbers in the place of infinities (1.0.3, https://github.com/google/highway/issues/1486).
std::vector<std::int64_t> sorted_order_keys(Scores scores);

/// ID is positive. Throws as require_scores.
Ranking ranking(const char* function, Scores id, Scores ood, std::int64_t least = 1);
/// As if all scores of a bin were equal. Throws as require_counts.
Ranking ranking(const char* function, BinCounts id, BinCounts ood, std::int64_t least = 1);
/// The same scores negated, with OOD positive.
Ranking mirrored(Ranking ranking);

double area_under_roc(const Ranking& ranking);
double false_positive_rate(const Ranking& ranking, double tpr);

struct PrecisionRecallAreas {
  double average_precision = 0;
  double trapezoid = 0;
};
PrecisionRecallAreas precision_recall_areas(const Ranking& ranking);

/// The rate of Metrics::fpr95 and fpr95_ood.
inline constexpr double kMetricsRate = 0.95;

/// All metrics of a ranking with ID positive; fpr95 and fpr95_ood at `tpr`.
Metrics all_metrics(Ranking ranking, double tpr = kMetricsRate);

/// DeLong's interval of ood/intervals.h, with ID positive and two scores of each kind or more.
Interval auroc_interval(const Ranking& ranking, double level = 0.95);

}  // namespace ood
