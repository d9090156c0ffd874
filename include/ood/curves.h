/// What a figure shows of scores: the ROC curve thinned to what can be seen, histograms, and how far
/// detectors agree on the order of rows.
///
/// Scores are confidences: higher = more in-distribution, as in ood/metrics.h; equal scores are ties
/// and +-infinity ranks as it should.
///
/// errors std::invalid_argument: NaN (says which array and where), an empty array, what the functions
/// say besides.
#pragma once

#include <span>
#include <vector>

#include "ood/metrics.h"

namespace ood {

/// A threshold accepts a share `fpr` of the OOD and `tpr` of the ID scores.
struct RocPoint {
  double fpr = 0;
  double tpr = 0;
};

/// Points on the ROC curve, from (0, 0) to (1, 1), neither rate falling. The curve is the polyline
/// through (fpr, tpr) at every threshold; its area is auroc(id, ood). Its own corners, where it has no
/// more than 201; else 201 points that cut it into pieces of equal length |dfpr| + |dtpr| = 1 / 100,
/// and 501 where the area below those is off by more than 1e-3.
///
/// The area below the points is within 1e-3 of auroc(id, ood): within a piece of length h the rising
/// curve and its chord enclose at most h^2 / 8, that is 1e-3 in all of 500 pieces of length 2 / 500.
std::vector<RocPoint> roc_curve(Scores id, Scores ood);

/// Counts of ID and OOD scores in the same bins of equal width from `low` to `high`.
struct ScoreHistogram {
  double low = 0;
  double high = 0;
  std::vector<Index> id;   ///< sums up to the number of ID scores
  std::vector<Index> ood;  ///< the same of OOD
};

/// `low` is the smaller of the 0.5 % and `high` the larger of the 99.5 % quantiles (numpy.percentile)
/// of the finite scores of either kind, so that a few extreme scores leave the others apart. Where
/// that is one number v, they are v -+ max(|v|, 1) / 2, and v = 0 where no score is finite. Scores
/// outside, infinite ones too, are counted in the bin at that end. Throws std::invalid_argument,
/// besides, for fewer than 1 bin.
ScoreHistogram score_histogram(Scores id, Scores ood, Index bins = 60);

/// Spearman's rank correlations [K, K] of K scores of the same n rows: Pearson's correlation of their
/// ranks, equal scores at the mean of theirs. The diagonal is 1; NaN for a score that is the same in
/// all rows, which has no order. cost O(K n log n + K^2 n), memory K n doubles. Throws
/// std::invalid_argument, besides, if the numbers of rows differ.
///
/// Source: Spearman, American Journal of Psychology 15 (1904); as scipy.stats.spearmanr.
MatrixD rank_correlation(std::span<const std::vector<double>> scores);

}  // namespace ood
