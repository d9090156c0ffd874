#include "ood/quantiles.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "errors.h"
#include "ood/accumulators/digit_counts.h"
#include "ood/reduce.h"

namespace ood {

namespace {

/// Where a percentile lies among n sorted entries: between number `lower` and the next.
struct Place {
  Place(Index n, double percent) {
    const double h = static_cast<double>(n - 1) * (percent / 100);
    lower = std::clamp<Index>(static_cast<Index>(h), 0, n - 1);
    upper = std::min(lower + 1, n - 1);
    fraction = h - static_cast<double>(lower);
  }
  Index lower, upper;
  double fraction;
};

/// From the nearer end, as numpy does: exact at both.
double interpolate(double a, double b, double fraction) {
  return fraction < 0.5 ? a + (b - a) * fraction : b - (b - a) * (1 - fraction);
}

/// The entry of some rank of some column, as far as it is known: its leading bits, and its rank
/// among the entries that share them.
struct Entry {
  Index prefix, rank;
  Index group = 0;  // the number of its prefix among those of the column
};

/// Numbers the distinct prefixes of each column. Returns them, [columns, groups], -1 for none.
std::vector<Index> group_by_prefix(std::vector<std::vector<Entry>>& columns) {
  std::vector<std::vector<Index>> distinct(columns.size());
  std::size_t groups = 0;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    for (Entry& entry : columns[c]) {
      const auto found = std::ranges::find(distinct[c], entry.prefix);
      entry.group = found - distinct[c].begin();
      if (found == distinct[c].end()) distinct[c].push_back(entry.prefix);
    }
    groups = std::max(groups, distinct[c].size());
  }
  std::vector<Index> prefixes;
  for (auto& column : distinct) {
    column.resize(groups, -1);
    prefixes.insert(prefixes.end(), column.begin(), column.end());
  }
  return prefixes;
}

}  // namespace

MatrixD feature_percentiles(BatchSource& source, std::span<const double> percentiles,
                            QuantileScope scope, const Exec& exec) {
  const SourceInfo& info = source.info();
  const bool all = scope == QuantileScope::all;
  const Index n = all ? info.rows * info.dim : info.rows;
  if (n == 0) throw std::domain_error(fmt::format("{} has 0 rows, expected 1 or more", info.name));

  std::vector<Place> places;
  std::vector<Entry> wanted;
  for (const double percent : percentiles) {
    places.emplace_back(n, percent);
    wanted.push_back({.prefix = 0, .rank = places.back().lower});
    wanted.push_back({.prefix = 0, .rank = places.back().upper});
  }
  std::vector columns(all ? 1 : static_cast<std::size_t>(info.dim), wanted);

  constexpr Index kKeyBits = 32;
  for (Index known = 0; known < kKeyBits;) {
    const Index bits = std::min<Index>(all ? 11 : 8, kKeyBits - known);
    const DigitCounts empty(group_by_prefix(columns), std::ssize(columns), bits,
                            kKeyBits - known - bits);
    const DigitCounts counts = reduce(source, empty, exec);
    for (std::size_t c = 0; c < columns.size(); ++c)
      for (Entry& entry : columns[c]) {
        Index digit = 0;
        for (;; ++digit) {
          const Index count = counts.count(static_cast<Index>(c), entry.group, digit);
          if (entry.rank < count) break;
          entry.rank -= count;
        }
        entry.prefix = (entry.prefix << bits) + digit;
      }
    known += bits;
  }

  MatrixD out(std::ssize(percentiles), std::ssize(columns));
  for (std::size_t c = 0; c < columns.size(); ++c)
    for (std::size_t p = 0; p < places.size(); ++p) {
      const auto value = [&](std::size_t e) {
        return static_cast<double>(
            from_ordered_bits(static_cast<std::uint32_t>(columns[c][e].prefix)));
      };
      out(static_cast<Index>(p), static_cast<Index>(c)) =
          interpolate(value(2 * p), value(2 * p + 1), places[p].fraction);
    }
  return out;
}

double percentile(std::vector<double> values, double percent) {
  const Place place(std::ssize(values), percent);
  const auto lower = values.begin() + place.lower;
  std::ranges::nth_element(values, lower);
  const double a = *lower;
  const double b = place.upper == place.lower ? a : *std::min_element(lower + 1, values.end());
  return interpolate(a, b, place.fraction);
}

}  // namespace ood
