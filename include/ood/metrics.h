/// How well a score separates in-distribution (ID) from out-of-distribution (OOD) samples.
///
/// Scores are confidences: higher = more in-distribution. All metrics depend on ranks alone,
/// computed on the float64 values as they are: no squashing, no binning. Equal scores are one
/// threshold (ties are grouped), so +-infinity is allowed and ranks as it should.
///
/// errors std::invalid_argument: NaN (says which array and where), an empty array, a rate out of
/// (0, 1].
#pragma once

#include <cstdint>
#include <span>

#include "ood/matrix.h"

namespace ood {

using Scores = std::span<const double>;

/// Area under the ROC curve = P(id > ood) + P(id = ood) / 2 for one random sample of each.
double auroc(Scores id, Scores ood);

/// Share of OOD samples accepted at the highest threshold that accepts at least `tpr` of the ID
/// samples (accepted: score >= threshold). "FPR95" of the papers (Hendrycks, ReAct, KNN, ...); ID
/// is positive. The threshold is one of the scores: no interpolation. Whether `tpr` is reached is
/// decided on counts, accepted >= tpr * n, exactly as the share accepted / n >= tpr in float64.
double fpr_at_tpr(Scores id, Scores ood, double tpr = 0.95);

/// Share of ID samples rejected at the lowest threshold that rejects at least `tpr` of the OOD
/// samples (rejected: score <= threshold). "FPR@95" as OpenOOD prints it; OOD is positive.
double fpr_at_tpr_ood(Scores id, Scores ood, double tpr = 0.95);

/// Average precision with ID positive: sum over thresholds of (R_k - R_{k-1}) P_k, no interpolation
/// (scikit-learn's average_precision_score).
double aupr_in(Scores id, Scores ood);
/// Average precision with OOD positive, by the negated score.
double aupr_out(Scores id, Scores ood);

/// The same areas by the trapezoid rule over the precision-recall curve, as OpenOOD prints them
/// (scikit-learn's auc(recall, precision)); optimistic, most of all with many ties.
double aupr_in_trapezoid(Scores id, Scores ood);
double aupr_out_trapezoid(Scores id, Scores ood);

/// All of the above, as one sort gives them.
struct Metrics {
  double auroc = 0;
  double fpr95 = 0;      ///< fpr_at_tpr(id, ood, 0.95)
  double fpr95_ood = 0;  ///< fpr_at_tpr_ood(id, ood, 0.95)
  double aupr_in = 0;
  double aupr_out = 0;
  double aupr_in_trapezoid = 0;
  double aupr_out_trapezoid = 0;
};
Metrics compute_metrics(Scores id, Scores ood);

/// Share of rows whose largest logit (the first of equals) is at the label. Throws
/// std::invalid_argument if there are no rows, the lengths differ, or a row holds NaN.
double accuracy(const MatrixView& logits, Labels labels);

}  // namespace ood
