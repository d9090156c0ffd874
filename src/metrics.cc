#include "ood/metrics.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "errors.h"

namespace ood {

namespace {

/// How many scores share one value. ID or OOD is "positive": see ranking().
struct Tie {
  std::int64_t positives;
  std::int64_t negatives;
};

/// All scores, the most positive value first, one entry for each distinct value: every metric here
/// is a function of these counts.
struct Ranking {
  std::vector<Tie> ties;
  std::int64_t positives;
  std::int64_t negatives;
};

std::vector<double> sorted_descending(const char* metric, const char* array, Scores scores) {
  if (scores.empty()) throw_invalid("{}: {} has 0 scores, expected 1 or more", metric, array);
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (std::isnan(scores[i]))
      throw_invalid("{}: {} score {} is NaN, expected a number", metric, array, i);
  std::vector<double> sorted(scores.begin(), scores.end());
  std::ranges::sort(sorted, std::greater<>());
  return sorted;
}

/// ID is positive.
Ranking ranking(const char* metric, Scores id, Scores ood) {
  const auto ids = sorted_descending(metric, "id", id);
  const auto oods = sorted_descending(metric, "ood", ood);
  Ranking ranking{{}, std::ssize(ids), std::ssize(oods)};
  for (auto i = ids.begin(), o = oods.begin(); i != ids.end() || o != oods.end();) {
    const double score = o == oods.end() || (i != ids.end() && *i > *o) ? *i : *o;
    const auto differs = [score](double other) { return other != score; };
    const auto id_end = std::find_if(i, ids.end(), differs);
    const auto ood_end = std::find_if(o, oods.end(), differs);
    ranking.ties.push_back({id_end - i, ood_end - o});
    i = id_end;
    o = ood_end;
  }
  return ranking;
}

/// The same scores negated, with OOD positive.
Ranking mirrored(Ranking ranking) {
  std::ranges::reverse(ranking.ties);
  for (Tie& tie : ranking.ties) std::swap(tie.positives, tie.negatives);
  std::swap(ranking.positives, ranking.negatives);
  return ranking;
}

double ratio(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

double area_under_roc(const Ranking& ranking) {
  // Pairs that are in order count two, ties one: exact in 64 bits while n m < 2^63.
  std::uint64_t half_pairs = 0;
  std::int64_t negatives_below = ranking.negatives;
  for (const Tie& tie : ranking.ties) {
    negatives_below -= tie.negatives;
    half_pairs += static_cast<std::uint64_t>(tie.positives) *
                  static_cast<std::uint64_t>(2 * negatives_below + tie.negatives);
  }
  const double pairs =
      static_cast<double>(ranking.positives) * static_cast<double>(ranking.negatives);
  return static_cast<double>(half_pairs) / (2 * pairs);
}

double false_positive_rate(const Ranking& ranking, double tpr) {
  std::int64_t true_positives = 0, false_positives = 0;
  for (const Tie& tie : ranking.ties) {
    true_positives += tie.positives;
    false_positives += tie.negatives;
    if (ratio(true_positives, ranking.positives) >= tpr) break;
  }
  return ratio(false_positives, ranking.negatives);
}

struct PrecisionRecallAreas {
  double average_precision = 0;
  double trapezoid = 0;
};

PrecisionRecallAreas precision_recall_areas(const Ranking& ranking) {
  PrecisionRecallAreas areas;
  std::int64_t true_positives = 0, accepted = 0;
  double recall = 0, precision = 1;  // scikit-learn's first point: nothing accepted
  for (const Tie& tie : ranking.ties) {
    true_positives += tie.positives;
    accepted += tie.positives + tie.negatives;
    const double next_recall = ratio(true_positives, ranking.positives);
    const double next_precision = ratio(true_positives, accepted);
    areas.average_precision += (next_recall - recall) * next_precision;
    areas.trapezoid += (next_recall - recall) * (precision + next_precision) / 2;
    recall = next_recall;
    precision = next_precision;
  }
  return areas;
}

void require_rate(const char* metric, double tpr) {
  if (!(tpr > 0 && tpr <= 1))
    throw_invalid("{}: tpr is {}, expected a rate in (0, 1]", metric, tpr);
}

}  // namespace

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
  const Ranking in = ranking("compute_metrics", id, ood);
  const Ranking out = mirrored(in);
  const auto areas_in = precision_recall_areas(in);
  const auto areas_out = precision_recall_areas(out);
  return {.auroc = area_under_roc(in),
          .fpr95 = false_positive_rate(in, 0.95),
          .fpr95_ood = false_positive_rate(out, 0.95),
          .aupr_in = areas_in.average_precision,
          .aupr_out = areas_out.average_precision,
          .aupr_in_trapezoid = areas_in.trapezoid,
          .aupr_out_trapezoid = areas_out.trapezoid};
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
  return ratio(correct, rows);
}

}  // namespace ood
