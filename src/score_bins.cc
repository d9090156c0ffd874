#include "ood/score_bins.h"

#include <hwy/contrib/sort/vqsort.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <utility>

#include "errors.h"
#include "kernels/dispatch.h"
#include "ood/accumulators/digit_counts.h"
#include "ranking.h"

namespace ood {

namespace {

std::uint32_t key_of(const char* function, std::span<const float> scores, std::size_t i) {
  if (std::isnan(scores[i])) throw_invalid("{}: score {} is NaN, expected a number", function, i);
  return ordered_bits(scores[i]);
}

std::vector<std::uint32_t> sorted_keys(const char* function, std::span<const float> scores) {
  kernels::ensure_simd_target();
  std::vector<std::uint32_t> keys(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) keys[i] = key_of(function, scores, i);
  hwy::Sorter()(keys.data(), keys.size(), hwy::SortAscending());
  return keys;
}

/// Evenly spaced ones of a sorted array, the first and the last among them.
std::vector<std::uint32_t> evenly(const std::vector<std::uint32_t>& sorted, std::size_t most) {
  if (sorted.size() <= most) return sorted;
  std::vector<std::uint32_t> chosen(most);
  for (std::size_t i = 0; i < most; ++i) chosen[i] = sorted[i * (sorted.size() - 1) / (most - 1)];
  return chosen;
}

std::size_t require_most(const char* function, Index most) {
  if (most < 2) throw_invalid("{}: most is {}, expected 2 or more", function, most);
  return static_cast<std::size_t>(most);
}

std::vector<float> scores_of(const std::vector<std::uint32_t>& keys) {
  std::vector<float> scores(keys.size());
  std::ranges::transform(keys, scores.begin(), from_ordered_bits);
  return scores;
}

/// The bin of a score. Keys from the first edge to the last are cut into equal cells, and each of them into
/// equal slots, more of them where it has more edges: so that a slot seldom has more than one, wherever edges
/// are dense. Those of a slot are bisected.
class BinFinder {
 public:
  explicit BinFinder(std::span<const float> edges) : keys_(edges.size()) {
    for (std::size_t i = 0; i < edges.size(); ++i) {
      if (std::isnan(edges[i])) throw_invalid("bin_counts: edge {} is NaN, expected a number", i);
      keys_[i] = ordered_bits(edges[i]);
      if (i > 0 && keys_[i] <= keys_[i - 1])
        throw_invalid("bin_counts: edge {} is {} after {}, expected ascending numbers", i, edges[i],
                      edges[i - 1]);
    }
    if (!keys_.empty()) make_slots();
  }

  std::size_t bins() const { return 2 * keys_.size() + 1; }

  std::size_t bin(std::uint32_t key) const {
    if (keys_.empty() || key < keys_.front()) return 0;
    if (key > keys_.back()) return 2 * keys_.size();
    const std::uint32_t place = key - keys_.front();
    const Cell& cell = cells_[place >> cell_bits_];
    const std::uint32_t* slot = &slots_[cell.slot + ((place & cell_mask()) >> cell.slot_bits)];
    // the first edge that is not below the key is in this slot, or is the first one behind it
    const std::uint32_t* edge = keys_.data() + slot[0];
    for (std::uint32_t left = slot[1] - slot[0]; left > 0;) {
      const std::uint32_t half = (left + 1) / 2;
      edge += edge[half - 1] < key ? half : 0;
      left -= half;
    }
    return 2 * static_cast<std::size_t>(edge - keys_.data()) + (*edge == key ? 1 : 0);
  }

 private:
  struct Cell {
    std::uint32_t slot;       // its first one
    std::uint32_t slot_bits;  // of a key are within a slot
  };
  static constexpr int kMostCells = 10;  // as a power of two
  static constexpr std::size_t kSlotsPerEdge = 2;

  std::uint32_t cell_mask() const {
    return static_cast<std::uint32_t>((std::uint64_t{1} << cell_bits_) - 1);
  }

  void make_slots() {
    const std::uint32_t range = keys_.back() - keys_.front();
    cell_bits_ = std::max(static_cast<int>(std::bit_width(range)) - kMostCells, 0);
    std::size_t first = 0;  // edge of the cell
    for (std::uint32_t c = 0; c <= range >> cell_bits_; ++c) {
      std::size_t end = first;
      while (end < keys_.size() && (keys_[end] - keys_.front()) >> cell_bits_ == c) ++end;
      const auto wanted = static_cast<int>(std::bit_width(kSlotsPerEdge * (end - first)));
      const int slot_bits = std::max(cell_bits_ - wanted, 0);
      cells_.push_back(
          {static_cast<std::uint32_t>(slots_.size()), static_cast<std::uint32_t>(slot_bits)});
      for (std::uint32_t s = 0; s <= cell_mask() >> slot_bits; ++s) {
        slots_.push_back(static_cast<std::uint32_t>(first));
        while (first < end && ((keys_[first] - keys_.front()) & cell_mask()) >> slot_bits == s)
          ++first;
      }
    }
    slots_.push_back(static_cast<std::uint32_t>(keys_.size()));
  }

  std::vector<std::uint32_t> keys_;
  int cell_bits_ = 0;  // of a key are within a cell
  std::vector<Cell> cells_;
  std::vector<std::uint32_t> slots_;  // the number of the first edge of each; then K
};

/// A bin on the way through the ranking. What happens in an open one is not known.
struct Bin {
  Tie tie;
  bool open;
};

/// Bins that hold scores, the most positive first.
struct Bins {
  std::vector<Bin> all;
  std::int64_t positives = 0;
  std::int64_t negatives = 0;
};

Bins bins_of(BinCounts id, BinCounts ood) {
  require_counts("binned_metrics", id, ood);
  Bins bins;
  for (std::size_t i = id.size(); i-- > 0;) {
    const Tie tie{id[i], ood[i]};
    if (tie.positives + tie.negatives == 0) continue;
    bins.all.push_back({tie, i % 2 == 0 && tie.positives + tie.negatives > 1});
    bins.positives += tie.positives;
    bins.negatives += tie.negatives;
  }
  return bins;
}

Bins mirrored(Bins bins) {
  std::ranges::reverse(bins.all);
  for (Bin& bin : bins.all) std::swap(bin.tie.positives, bin.tie.negatives);
  std::swap(bins.positives, bins.negatives);
  return bins;
}

struct Bounds {
  double low = 0;
  double high = 0;
};

/// The pairs that bins as ties count half, all wrong and all right.
Bounds roc_bounds(const Bins& bins, double as_ties) {
  double halves = 0;
  for (const Bin& bin : bins.all)
    if (bin.open)
      halves += static_cast<double>(bin.tie.positives) * static_cast<double>(bin.tie.negatives) / 2;
  const double share =
      halves / (static_cast<double>(bins.positives) * static_cast<double>(bins.negatives));
  return {as_ties - share, as_ties + share};
}

Bounds rate_bounds(const Bins& bins) {
  const auto positives = static_cast<double>(bins.positives);
  std::int64_t accepted_positives = 0, before = 0, through = 0;
  for (const Bin& bin : bins.all) {
    accepted_positives += bin.tie.positives;
    through += bin.tie.negatives;
    if (!bin.open) before = through;
    if (static_cast<double>(accepted_positives) / positives >= kMetricsRate) break;
    before = through;
  }
  const auto negatives = static_cast<double>(bins.negatives);
  return {static_cast<double>(before) / negatives, static_cast<double>(through) / negatives};
}

/// The integral of x / (x + negatives) from `from` to `to`.
double precision_integral(double negatives, double from, double to) {
  if (negatives == 0) return to - from;
  return to - from - negatives * std::log1p((to - from) / (from + negatives));
}

/// l(j) and u(j) of binned_metrics.
double precision(double positives, double negatives) {
  return positives + negatives == 0 ? 1 : positives / (positives + negatives);
}

struct AreaBounds {
  Bounds average_precision;
  Bounds trapezoid;
};

AreaBounds area_bounds(const Bins& bins) {
  const auto all_positives = static_cast<double>(bins.positives);
  Bounds average, trapezoid;
  const auto add = [](Bounds& bounds, double low, double high) {
    bounds.low += low;
    bounds.high += high;
  };
  std::int64_t t = 0, f = 0;
  double recall = 0, last = 1;  // as precision_recall_areas, whose steps known bins are
  for (const Bin& bin : bins.all) {
    const auto before = static_cast<double>(t), wrong = static_cast<double>(f);
    const auto p = static_cast<double>(bin.tie.positives);
    t += bin.tie.positives;
    f += bin.tie.negatives;
    const auto through = static_cast<double>(t), all_wrong = static_cast<double>(f);
    const double next_recall = through / all_positives;
    const double next = through / static_cast<double>(t + f);
    if (!bin.open) {
      const double step = (next_recall - recall) * next;
      const double chord = (next_recall - recall) * (last + next) / 2;
      add(average, step, step);
      add(trapezoid, chord, chord);
    } else if (p > 0) {
      add(average,
          (precision(before + 1, all_wrong) +
           precision_integral(all_wrong, before + 1.5, through + 0.5)) /
              all_positives,
          p * precision(through, wrong) / all_positives);
      add(trapezoid,
          p * (precision(before, all_wrong) + precision(through, all_wrong)) / 2 / all_positives,
          precision_integral(wrong, before, through) / all_positives);
    }
    recall = next_recall;
    last = next;
  }
  return {average, trapezoid};
}

}  // namespace

std::vector<float> score_sample(std::span<const float> scores, Index most) {
  const std::size_t wanted = require_most("score_sample", most);
  return scores_of(evenly(sorted_keys("score_sample", scores), wanted));
}

std::vector<float> bin_edges(std::span<const float> samples, Index most) {
  const std::size_t wanted = require_most("bin_edges", most);
  const auto sorted = sorted_keys("bin_edges", samples);
  std::vector<std::uint32_t> edges;
  std::ranges::unique_copy(sorted, std::back_inserter(edges));
  if (edges.size() > wanted) {
    edges = evenly(sorted, wanted);
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  }
  return scores_of(edges);
}

std::vector<std::int64_t> bin_counts(std::span<const float> scores, std::span<const float> edges) {
  const BinFinder finder(edges);
  std::vector<std::int64_t> counts(finder.bins(), 0);
  for (std::size_t i = 0; i < scores.size(); ++i)
    ++counts[finder.bin(key_of("bin_counts", scores, i))];
  return counts;
}

BinnedMetrics binned_metrics(BinCounts id, BinCounts ood) {
  const Bins in = bins_of(id, ood), out = mirrored(in);
  BinnedMetrics metrics;
  metrics.value = all_metrics(ranking("binned_metrics", id, ood));
  const auto set = [&](double Metrics::*metric, Bounds bounds) {
    // the value is one that the scores may have: only rounding puts it out of the bounds
    const double value = metrics.value.*metric;
    metrics.bounds.low.*metric = std::clamp(bounds.low, 0.0, value);
    metrics.bounds.high.*metric = std::clamp(bounds.high, value, std::max(value, 1.0));
  };
  set(&Metrics::auroc, roc_bounds(in, metrics.value.auroc));
  set(&Metrics::fpr95, rate_bounds(in));
  set(&Metrics::fpr95_ood, rate_bounds(out));
  const AreaBounds areas_in = area_bounds(in), areas_out = area_bounds(out);
  set(&Metrics::aupr_in, areas_in.average_precision);
  set(&Metrics::aupr_in_trapezoid, areas_in.trapezoid);
  set(&Metrics::aupr_out, areas_out.average_precision);
  set(&Metrics::aupr_out_trapezoid, areas_out.trapezoid);
  return metrics;
}

}  // namespace ood
