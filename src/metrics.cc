#include "ood/metrics.h"

#include <algorithm>
#include <cmath>

#include "errors.h"
#include "ranking.h"

namespace ood {

double auroc(Scores id, Scores ood) { return area_under_roc(ranking("auroc", id, ood)); }

double fpr_at_tpr(Scores id, Scores ood, double tpr) {
  require_rate("fpr_at_tpr", tpr);
  return false_positive_rate(ranking("fpr_at_tpr", id, ood), tpr);
}

double fpr_at_tpr_ood(Scores id, Scores ood, double tpr) {
  require_rate("fpr_at_tpr_ood", tpr);
  return false_positive_rate(mirrored(ranking("fpr_at_tpr_ood", id, ood)), tpr);
}

double aupr_in(Scores id, Scores ood) {
  return precision_recall_areas(ranking("aupr_in", id, ood)).average_precision;
}

double aupr_out(Scores id, Scores ood) {
  return precision_recall_areas(mirrored(ranking("aupr_out", id, ood))).average_precision;
}

double aupr_in_trapezoid(Scores id, Scores ood) {
  return precision_recall_areas(ranking("aupr_in_trapezoid", id, ood)).trapezoid;
}

double aupr_out_trapezoid(Scores id, Scores ood) {
  return precision_recall_areas(mirrored(ranking("aupr_out_trapezoid", id, ood))).trapezoid;
}

Metrics compute_metrics(Scores id, Scores ood) {
  return all_metrics(ranking("compute_metrics", id, ood));
}

double accuracy(const MatrixView& logits, Labels labels) {
  const Index rows = logits.rows();
  if (rows == 0) throw_invalid("accuracy: logits has 0 rows, expected 1 or more");
  if (logits.cols() == 0) throw_invalid("accuracy: logits has 0 columns, expected 1 or more");
  if (std::ssize(labels) != rows)
    throw_invalid("accuracy: labels has {} entries, expected {} as logits has rows", labels.size(),
                  rows);
  std::int64_t correct = 0;
  for (Index row = 0; row < rows; ++row) {
    const std::span values(logits.row_data(row), static_cast<std::size_t>(logits.cols()));
    if (std::ranges::any_of(values, [](float value) { return std::isnan(value); }))
      throw_invalid("accuracy: logits row {} has NaN, expected numbers", row);
    const auto predicted = std::ranges::max_element(values) - values.begin();
    if (predicted == labels[static_cast<std::size_t>(row)]) ++correct;
  }
  return static_cast<double>(correct) / static_cast<double>(rows);
}

}  // namespace ood
