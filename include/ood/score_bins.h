/// Metrics of more scores than can be kept in one place: counts of scores in bins, which add up in any
/// order, and how far what they tell may be from the metrics of the scores themselves.
///
/// Bins are made by K edges, distinct float32 numbers e_0 < ... < e_{K-1}, each of them a bin of its own:
///
///   [-inf, e_0), {e_0}, (e_0, e_1), {e_1}, ..., {e_{K-1}}, (e_{K-1}, +inf]      2 K + 1 bins
///
/// An edge's bin (an odd number) holds equal scores: nothing about it is unknown. Inside the others, the
/// open bins, order and ties are not known. So metrics are exact where an open bin holds one score or none,
/// as where all distinct scores are edges. Scores are those of ood/metrics.h: -0 equals 0, +-infinity is
/// the lowest, the highest.
///
/// errors std::invalid_argument: NaN (says where), edges that do not ascend, what the functions say besides.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ood/metrics.h"

namespace ood {

/// [2 K + 1] how many scores are in each bin, the lowest scores first.
using BinCounts = std::span<const std::int64_t>;

/// At most `most` of the n scores, ascending: those at the places floor(i (n - 1) / (s - 1)) of the sorted
/// ones, i = 0 to s - 1, s = min(n, most). The first and the last are among them, and at most
/// ceil((n - 1) / (s - 1)) - 1 scores stand between two neighbours. What edges are chosen from. Throws,
/// besides, if most is below 2.
std::vector<float> score_sample(std::span<const float> scores, Index most);

/// Edges: the distinct ones of `samples`, ascending, in any order before. Where that is more than `most`,
/// the distinct ones of score_sample(samples, most): what is there more often than (n - 1) / (most - 1) times
/// stays an edge.
std::vector<float> bin_edges(std::span<const float> samples, Index most);

/// Counts of the scores by the bins of the edges, [2 K + 1]. cost O(n + K) where edges lie evenly, O(n log K
/// + K) at most.
std::vector<std::int64_t> bin_counts(std::span<const float> scores, std::span<const float> edges);

/// The least and the most that each metric may be.
struct MetricBounds {
  Metrics low;
  Metrics high;
};

struct BinnedMetrics {
  Metrics value;  ///< with every bin taken as one tie
  MetricBounds bounds;
};

/// compute_metrics() of scores of which only these counts are known. `value` takes a bin as one tie, which
/// the scores might be; the bounds hold for every order and all ties of the scores within each open bin, up
/// to rounding in float64.
///
/// In the order of the ranking, the most positive first, let an open bin of two scores or more have p
/// positives and n negatives, and let t and f be the numbers of positives and negatives before it, P and N
/// those of all. Within the bin, after j of its positives and any of its negatives, the precision lies
/// between
///
///   l(j) = (t + j) / (t + j + f + n)      and      u(j) = (t + j) / (t + j + f),      both rising and concave
///
/// (0 / 0 is 1, scikit-learn's first precision). What the bin adds lies between
///
///   AUROC, in units of 1 / (P N), with b negatives after the bin:    p b      and   p (b + n)
///   false positives, where the rate is reached in the bin, of N:     f        and   f + n
///   average precision, of P:       l(1) + int_{3/2}^{p+1/2} l(x) dx           and   p u(p)
///   trapezoid area, of P:                    p (l(0) + l(p)) / 2              and   int_0^p u(x) dx
///
/// AUROC and false positives: all negatives of the bin before its positives, or after. Average precision is
/// the sum of the precision at the threshold of each positive: at most u(p), which is reached where the
/// positives are equal and before the negatives; at least l(j) for the j-th, reached where they are distinct
/// and behind the negatives, and l(j) >= int_{j-1/2}^{j+1/2} l by Jensen's inequality. The trapezoid rule
/// joins the precisions after 0 = j_0 < j_1 < ... = p positives: below, by chords of l, of which one chord is
/// the lowest as l is concave (reached where first the negatives and then the positives are equal); above, by
/// chords of u, which lie below u. What precedes a bin and what its last threshold gives is known exactly,
/// so that bins add up.
///
/// With OOD positive the same holds of the mirrored ranking.
///
/// Throws, besides, if the counts are not of the same odd number of bins, one is below 0, or none is above.
BinnedMetrics binned_metrics(BinCounts id, BinCounts ood);

}  // namespace ood
