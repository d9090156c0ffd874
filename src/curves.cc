#include "ood/curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "errors.h"
#include "ood/quantiles.h"
#include "ranking.h"

namespace ood {

namespace {

constexpr std::size_t kPieces = 200, kFinePieces = 500;
constexpr double kAreaError = 1e-3;

/// Where the ROC curve turns, with its ends.
std::vector<RocPoint> corners(const Ranking& ranking) {
  std::vector<RocPoint> points = {{0, 0}};
  Tie sum, last;
  for (const Tie& tie : ranking.ties) {
    // parallel to the piece before: that one goes on
    if (last.positives * tie.negatives == last.negatives * tie.positives && points.size() > 1)
      points.pop_back();
    sum.positives += tie.positives;
    sum.negatives += tie.negatives;
    points.push_back({static_cast<double>(sum.negatives) / static_cast<double>(ranking.negatives),
                      static_cast<double>(sum.positives) / static_cast<double>(ranking.positives)});
    last = tie;
  }
  return points;
}

double length_to(const RocPoint& point) { return point.fpr + point.tpr; }

/// Points that cut the polyline into pieces of equal length.
std::vector<RocPoint> resampled(const std::vector<RocPoint>& polyline, std::size_t pieces) {
  std::vector<RocPoint> points = {polyline.front()};
  auto next = polyline.begin() + 1;
  for (std::size_t k = 1; k < pieces; ++k) {
    const double length = 2 * static_cast<double>(k) / static_cast<double>(pieces);
    while (length_to(*next) < length) ++next;
    const RocPoint &from = *(next - 1), &to = *next;
    const double share = (length - length_to(from)) / (length_to(to) - length_to(from));
    points.push_back({std::lerp(from.fpr, to.fpr, share), std::lerp(from.tpr, to.tpr, share)});
  }
  points.push_back(polyline.back());
  return points;
}

double area_below(const std::vector<RocPoint>& points) {
  double area = 0;
  for (std::size_t i = 1; i < points.size(); ++i)
    area += (points[i].fpr - points[i - 1].fpr) * (points[i].tpr + points[i - 1].tpr) / 2;
  return area;
}

std::vector<double> finite(Scores scores) {
  std::vector<double> kept;
  std::ranges::copy_if(scores, std::back_inserter(kept), [](double s) { return std::isfinite(s); });
  return kept;
}

/// Ranks from 1, equal scores at the mean of theirs, less their mean, scaled to length 1: NaN where
/// all are equal.
VectorD unit_ranks(Scores scores) {
  const std::size_t n = scores.size();
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t row) { return scores[row]; });
  VectorD ranks(static_cast<Index>(n));
  const double mean = (static_cast<double>(n) + 1) / 2;
  for (std::size_t begin = 0, end = 0; begin < n; begin = end) {
    while (end < n && scores[order[end]] == scores[order[begin]]) ++end;
    const double rank = static_cast<double>(begin + 1 + end) / 2;
    for (std::size_t i = begin; i < end; ++i) ranks[static_cast<Index>(order[i])] = rank - mean;
  }
  const double length = ranks.norm();
  return length > 0 ? VectorD(ranks / length)
                    : VectorD::Constant(ranks.size(), std::numeric_limits<double>::quiet_NaN());
}

}  // namespace

std::vector<RocPoint> roc_curve(Scores id, Scores ood) {
  const Ranking order = ranking("roc_curve", id, ood);
  const auto exact = corners(order);
  if (exact.size() <= kPieces + 1) return exact;
  auto points = resampled(exact, kPieces);
  if (std::abs(area_below(points) - area_under_roc(order)) > kAreaError)
    points = resampled(exact, kFinePieces);
  return points;
}

ScoreHistogram score_histogram(Scores id, Scores ood, Index bins) {
  if (bins < 1) throw_invalid("score_histogram: bins has {}, expected 1 or more", bins);
  require_scores("score_histogram", "id", id);
  require_scores("score_histogram", "ood", ood);
  ScoreHistogram histogram{.low = std::numeric_limits<double>::infinity(),
                           .high = -std::numeric_limits<double>::infinity(),
                           .id = {},
                           .ood = {}};
  for (const auto& scores : {finite(id), finite(ood)}) {
    if (scores.empty()) continue;
    histogram.low = std::min(histogram.low, percentile(scores, 0.5));
    histogram.high = std::max(histogram.high, percentile(scores, 99.5));
  }
  if (!(histogram.low < histogram.high)) {
    const double middle = std::isfinite(histogram.low) ? histogram.low : 0;
    histogram.low = middle - std::max(std::abs(middle), 1.0) / 2;
    histogram.high = middle + std::max(std::abs(middle), 1.0) / 2;
  }
  const auto count = [&](Scores scores) {
    std::vector<Index> counts(static_cast<std::size_t>(bins), 0);
    // halves: the difference of two doubles may be beyond them
    const double width = histogram.high / 2 - histogram.low / 2;
    for (const double score : scores) {
      if (score <= histogram.low) {  // minus infinity too
        ++counts.front();
        continue;
      }
      const double share = score >= histogram.high ? 1 : (score / 2 - histogram.low / 2) / width;
      const double place =
          std::min(share * static_cast<double>(bins), static_cast<double>(bins - 1));
      ++counts[static_cast<std::size_t>(place)];
    }
    return counts;
  };
  histogram.id = count(id);
  histogram.ood = count(ood);
  return histogram;
}

MatrixD rank_correlation(std::span<const std::vector<double>> scores) {
  const auto count = std::ssize(scores);
  if (count == 0) return {};
  MatrixD ranks(count, std::ssize(scores[0]));
  for (Index k = 0; k < count; ++k) {
    const auto& own = scores[static_cast<std::size_t>(k)];
    require_scores("rank_correlation", "scores", own);
    if (own.size() != scores[0].size())
      throw_invalid("rank_correlation: score {} has {} rows, expected {} as score 0 has", k,
                    own.size(), scores[0].size());
    ranks.row(k) = unit_ranks(own).transpose();
  }
  MatrixD correlation = ranks * ranks.transpose();
  for (double& value : correlation.reshaped()) value = std::clamp(value, -1.0, 1.0);  // NaN stays
  for (Index k = 0; k < count; ++k)
    if (!std::isnan(correlation(k, k))) correlation(k, k) = 1;
  return correlation;
}

}  // namespace ood
