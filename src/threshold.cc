#include "ood/threshold.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "errors.h"
#include "ranking.h"

namespace ood {

namespace {

/// How many of n scores are kept, and the rank of the j-th of them.
Index kept_of(Index rows) { return std::min(rows, ScoreSample::kMost); }
Index rank_of(Index j, Index rows) {
  const Index kept = kept_of(rows);
  return kept == rows ? j : j * (rows - 1) / (kept - 1);
}

/// The number of n scores that are <= `score`, from above: all before the first one kept that is not.
Index most_at_most(Index rows, Scores kept, double score) {
  const auto after = std::ranges::upper_bound(kept, score);
  return after == kept.end() ? rows : rank_of(after - kept.begin(), rows);
}

double conformal(Index rows, Index at_most) {
  return static_cast<double>(1 + at_most) / static_cast<double>(rows + 1);
}

/// The scores kept of these, in order.
void append_kept(std::vector<double>& scores, std::vector<double>& kept) {
  std::ranges::sort(scores);
  const Index rows = std::ssize(scores);
  for (Index j = 0; j < kept_of(rows); ++j)
    kept.push_back(scores[static_cast<std::size_t>(rank_of(j, rows))]);
}

VectorD as_vector(const std::vector<double>& values) {
  return Eigen::Map<const VectorD>(values.data(), std::ssize(values));
}

void require_kept(const char* what, Index rows, Scores kept) {
  constexpr Index kMostRows = Index{1} << 46;  // rank_of() multiplies
  if (rows < 0 || rows > kMostRows || std::ssize(kept) != kept_of(rows))
    throw_invalid("calibration: {} has {} scores of {} rows, expected {}", what, kept.size(), rows,
                  kept_of(std::max<Index>(rows, 0)));
  if (std::ranges::any_of(kept, [](double score) { return std::isnan(score); }) ||
      !std::ranges::is_sorted(kept))
    throw_invalid("calibration: {} has scores out of order, expected them sorted", what);
}

}  // namespace

double threshold_at_tpr(Scores id, double tpr) {
  require_rate("threshold_at_tpr", tpr);
  require_scores("threshold_at_tpr", "id", id);
  std::vector<double> sorted(id.begin(), id.end());
  std::ranges::sort(sorted);
  const auto n = static_cast<double>(sorted.size());
  // at x_(i), the first of equals, n - i are accepted
  std::size_t best = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i)
    if (static_cast<double>(sorted.size() - i) / n >= tpr) best = i;
  return sorted[best];
}

ScoreSample::ScoreSample(Scores scores) : rows_(std::ssize(scores)) {
  require_scores("calibration", "id", scores);
  const auto n = static_cast<double>(rows_);
  mean_ = std::accumulate(scores.begin(), scores.end(), 0.0) / n;
  double squares = 0;
  for (const double score : scores) squares += (score - mean_) * (score - mean_);
  variance_ = rows_ > 1 ? squares / (n - 1) : 0;
  std::vector<double> all(scores.begin(), scores.end()), kept;
  append_kept(all, kept);
  kept_ = as_vector(kept);
}

Index ScoreSample::at_most_high(double score) const { return most_at_most(rows_, kept(), score); }

Index ScoreSample::at_most_low(double score) const {
  const Scores scores = kept();
  const Index after = std::ranges::upper_bound(scores, score) - scores.begin();
  return after == 0 ? 0 : rank_of(after - 1, rows_) + 1;
}

void ScoreSample::visit(FieldVisitor& v) {
  v.state("rows", rows_);
  v.state("mean", mean_);
  v.state("variance", variance_);
  v.state("scores", kept_);
}

void ScoreSample::finish_loading() const { require_kept("scores", rows_, kept()); }

Calibration::Calibration(Scores id) : all_(id) {}

Calibration::Calibration(Scores id, std::span<const Index> predicted, Index classes) : all_(id) {
  if (classes < 1) throw_invalid("calibration: classes has {}, expected 1 or more", classes);
  if (predicted.size() != id.size())
    throw_invalid("calibration: predicted has {} entries, expected {} as id has", predicted.size(),
                  id.size());
  std::vector<std::vector<double>> scores(static_cast<std::size_t>(classes));
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (predicted[i] < 0 || predicted[i] >= classes)
      throw_invalid("calibration: predicted has {} at {}, expected [0, {})", predicted[i], i,
                    classes);
    scores[static_cast<std::size_t>(predicted[i])].push_back(id[i]);
  }
  std::vector<double> kept;
  for (std::vector<double>& own : scores) {
    class_rows_.push_back(std::ssize(own));
    append_kept(own, kept);
  }
  class_scores_ = as_vector(kept);
  find_classes();
}

void Calibration::find_classes() {
  class_begin_.clear();
  Index begin = 0;
  for (const Index rows : class_rows_) {
    class_begin_.push_back(begin);
    begin += kept_of(rows);
  }
}

Calibration::Group Calibration::group(Index predicted) const {
  if (!by_class()) return {all_.rows(), all_.kept()};
  if (predicted < 0 || predicted >= classes())
    throw_invalid("calibration: predicted class has {}, expected [0, {})", predicted, classes());
  const auto c = static_cast<std::size_t>(predicted);
  return {class_rows_[c], Scores(class_scores_.data() + class_begin_[c],
                                 static_cast<std::size_t>(kept_of(class_rows_[c])))};
}

double Calibration::p_value(double score, Index predicted) const {
  if (std::isnan(score)) return score;
  const auto [rows, kept] = group(predicted);
  return conformal(rows, most_at_most(rows, kept, score));
}

double Calibration::threshold(double alpha, Index predicted) const {
  if (!(alpha >= 0 && alpha < 1))
    throw_invalid("calibration: alpha has {}, expected 0 or more, below 1", alpha);
  const auto [rows, kept] = group(predicted);
  if (conformal(rows, 0) > alpha) return -std::numeric_limits<double>::infinity();
  // p-values rise with the score; that of the largest one is 1
  return *std::ranges::partition_point(kept, [&, rows = rows, kept = kept](double score) {
    return conformal(rows, most_at_most(rows, kept, score)) <= alpha;
  });
}

void Calibration::p_values(const Batch& batch, std::span<const float> scores,
                           std::span<double> out) const {
  if (out.size() != scores.size())
    throw_invalid("p_values: out has {} entries, expected {} as scores has", out.size(),
                  scores.size());
  if (by_class() && (!batch.logits || batch.logits->rows() != std::ssize(scores)))
    throw_invalid(
        "p_values: batch has no logits of the {} rows that were scored, which a "
        "calibration by class needs",
        scores.size());
  if (by_class() && batch.logits->rows() > 0 && batch.logits->cols() != classes())
    throw_invalid("p_values: logits has {} columns, expected {}", batch.logits->cols(), classes());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    Index predicted = 0;
    bool finite = true;
    if (by_class()) {
      const float* row = batch.logits->row_data(static_cast<Index>(i));
      for (Index c = 0; c < classes(); ++c) {
        finite = finite && std::isfinite(row[c]);
        if (row[c] > row[predicted]) predicted = c;
      }
    }
    out[i] = finite ? p_value(static_cast<double>(scores[i]), predicted)
                    : std::numeric_limits<double>::quiet_NaN();
  }
}

void Calibration::visit(FieldVisitor& v) {
  all_.visit(v);
  v.state("class_rows", class_rows_);
  v.state("class_scores", class_scores_);
}

void Calibration::finish_loading() {
  all_.finish_loading();
  Index kept = 0, rows = 0;
  for (const Index own : class_rows_) {
    if (own < 0 || own > all_.rows() - rows)
      throw_invalid("calibration: class_rows has {}, expected 0 to {}", own, all_.rows() - rows);
    kept += kept_of(own);
    rows += own;
  }
  if (kept != class_scores_.size() || (by_class() && rows != all_.rows()))
    throw_invalid("calibration: class_rows has {} rows and class_scores {}, expected {} and {}",
                  rows, class_scores_.size(), all_.rows(), kept);
  find_classes();
  for (Index c = 0; c < classes(); ++c) {
    const auto [own, scores] = group(c);
    require_kept("class_scores", own, scores);
  }
}

std::vector<double> adjusted_p_values(std::span<const double> p_values) {
  for (std::size_t i = 0; i < p_values.size(); ++i)
    if (!(p_values[i] >= 0 && p_values[i] <= 1))
      throw_invalid("adjusted_p_values: p_values has {} at {}, expected 0 to 1", p_values[i], i);
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return p_values[i]; });
  std::vector<double> adjusted(p_values.size());
  double least = 1;
  for (std::size_t rank = order.size(); rank > 0; --rank) {
    least = std::min(least, static_cast<double>(order.size()) * p_values[order[rank - 1]] /
                                static_cast<double>(rank));
    adjusted[order[rank - 1]] = least;
  }
  return adjusted;
}

}  // namespace ood
