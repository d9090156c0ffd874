#include "ranking.h"

#include <hwy/contrib/sort/vqsort.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "errors.h"
#include "kernels/dispatch.h"

namespace ood {

namespace {

double ratio(std::int64_t part, std::int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

/// Pairs that are in order count two, ties one: exact in 64 bits while n m < 2^63.
template <class Number>
Number count_half_pairs(const Ranking& ranking) {
  Number half_pairs = 0;
  std::int64_t negatives_below = ranking.negatives;
  for (const Tie& tie : ranking.ties) {
    negatives_below -= tie.negatives;
    half_pairs += static_cast<Number>(tie.positives) *
                  static_cast<Number>(2 * negatives_below + tie.negatives);
  }
  return half_pairs;
}

}  // namespace

void require_scores(const char* function, const char* array, Scores scores, std::int64_t least) {
  if (std::ssize(scores) < least)
    throw_invalid("{}: {} has {} scores, expected {} or more", function, array, scores.size(),
                  least);
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (std::isnan(scores[i]))
      throw_invalid("{}: {} score {} is NaN, expected a number", function, array, i);
}

void require_counts(const char* function, BinCounts id, BinCounts ood, std::int64_t least) {
  if (id.size() % 2 == 0)
    throw_invalid("{}: id has {} bins, expected an odd number", function, id.size());
  if (ood.size() != id.size())
    throw_invalid("{}: ood has {} bins, expected {} as id has", function, ood.size(), id.size());
  const auto require = [&](const char* array, BinCounts counts) {
    for (std::size_t i = 0; i < counts.size(); ++i)
      if (counts[i] < 0)
        throw_invalid("{}: {} has {} scores in bin {}, expected 0 or more", function, array,
                      counts[i], i);
    const auto sum = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    if (sum < least)
      throw_invalid("{}: {} has {} scores, expected {} or more", function, array, sum, least);
  };
  require("id", id);
  require("ood", ood);
}

void require_rate(const char* function, double tpr) {
  if (!(tpr > 0 && tpr <= 1))
    throw_invalid("{}: tpr is {}, expected a rate in (0, 1]", function, tpr);
}

std::int64_t order_key(double score) {
  const auto bits = std::bit_cast<std::int64_t>(score + 0.0);  // -0 + 0 = +0
  const auto magnitude = std::numeric_limits<std::int64_t>::max();
  return bits < 0 ? bits ^ magnitude : bits;
}

std::vector<std::int64_t> sorted_order_keys(Scores scores) {
  kernels::ensure_simd_target();  // the sort picks its instruction set as the kernels do
  std::vector<std::int64_t> keys(scores.size());
  std::ranges::transform(scores, keys.begin(), order_key);
  hwy::Sorter()(keys.data(), keys.size(), hwy::SortAscending());
  return keys;
}

Ranking ranking(const char* function, Scores id, Scores ood, std::int64_t least) {
  require_scores(function, "id", id, least);
  require_scores(function, "ood", ood, least);
  const auto ids = sorted_order_keys(id), oods = sorted_order_keys(ood);
  Ranking ranking{{}, std::ssize(ids), std::ssize(oods)};
  ranking.ties.reserve(ids.size() + oods.size());  // memory that is not touched costs nothing
  for (auto i = ids.rbegin(), o = oods.rbegin(); i != ids.rend() || o != oods.rend();) {
    const std::int64_t key = o == oods.rend() || (i != ids.rend() && *i > *o) ? *i : *o;
    const auto differs = [key](std::int64_t other) { return other != key; };
    const auto id_end = std::find_if(i, ids.rend(), differs);
    const auto ood_end = std::find_if(o, oods.rend(), differs);
    ranking.ties.push_back({id_end - i, ood_end - o});
    i = id_end;
    o = ood_end;
  }
  return ranking;
}

Ranking ranking(const char* function, BinCounts id, BinCounts ood, std::int64_t least) {
  require_counts(function, id, ood, least);
  Ranking ranking;
  for (std::size_t i = id.size(); i-- > 0;) {
    if (id[i] + ood[i] == 0) continue;
    ranking.ties.push_back({id[i], ood[i]});
    ranking.positives += id[i];
    ranking.negatives += ood[i];
  }
  return ranking;
}

Ranking mirrored(Ranking ranking) {
  std::ranges::reverse(ranking.ties);
  for (Tie& tie : ranking.ties) std::swap(tie.positives, tie.negatives);
  std::swap(ranking.positives, ranking.negatives);
  return ranking;
}

double area_under_roc(const Ranking& ranking) {
  const double pairs =
      static_cast<double>(ranking.positives) * static_cast<double>(ranking.negatives);
  const double half_pairs = pairs < 0x1p63
                                ? static_cast<double>(count_half_pairs<std::uint64_t>(ranking))
                                : count_half_pairs<double>(ranking);
  return half_pairs / (2 * pairs);
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

Metrics all_metrics(Ranking ranking, double tpr) {
  Metrics metrics;
  metrics.auroc = area_under_roc(ranking);
  metrics.fpr95 = false_positive_rate(ranking, tpr);
  const auto areas_in = precision_recall_areas(ranking);
  metrics.aupr_in = areas_in.average_precision;
  metrics.aupr_in_trapezoid = areas_in.trapezoid;

  const Ranking out = mirrored(std::move(ranking));
  metrics.fpr95_ood = false_positive_rate(out, tpr);
  const auto areas_out = precision_recall_areas(out);
  metrics.aupr_out = areas_out.average_precision;
  metrics.aupr_out_trapezoid = areas_out.trapezoid;
  return metrics;
}

}  // namespace ood
