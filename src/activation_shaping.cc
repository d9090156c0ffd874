#include "ood/activation_shaping.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "errors.h"
#include "ood/scratch.h"

namespace ood {

namespace {

/// The k-th largest entry of a row, 1 <= k <= D.
float kth_largest(std::span<const float> row, Index k) {
  Scratch scratch;
  std::pmr::vector<float> values(row.begin(), row.end(), &scratch);
  const auto kth = values.begin() + (k - 1);
  std::nth_element(values.begin(), kth, values.end(), std::greater<>());
  return *kth;
}

}  // namespace

void non_negative_rows(const Batch& tile, bool relu, MatrixMap out) {
  out = *tile.features;
  for (Index i = 0; i < out.rows(); ++i) {
    auto row = out.row(i);
    if (!row.allFinite()) {
      row.setConstant(std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    if (relu) {
      row = row.cwiseMax(0.0f);
      continue;
    }
    Index j = 0;
    if (const float least = row.minCoeff(&j); least < 0)
      throw std::domain_error(
          fmt::format("features has {} at row {}, column {}, expected 0 or more, as after a ReLU; "
                      "relu = true takes negative entries for 0",
                      least, tile.first_row + i, j));
  }
}

Index kept_entries(Index dim, double percentile) {
  // nearbyint would obey the rounding mode of the thread
  const double share = static_cast<double>(dim) * percentile / 100;
  const double floor = std::floor(share);
  const bool up = share - floor > 0.5 || (share - floor == 0.5 && std::fmod(floor, 2) != 0);
  return std::max<Index>(1, dim - static_cast<Index>(floor + (up ? 1 : 0)));
}

void largest_entries(std::span<const float> row, Index k, std::pmr::vector<Index>& columns) {
  columns.clear();
  k = std::min<Index>(k, std::ssize(row));
  const float least = kth_largest(row, k);
  Index ties = k - std::ranges::count_if(row, [&](float x) { return x > least; });
  for (std::size_t j = 0; j < row.size(); ++j)
    if (row[j] > least || (row[j] == least && ties-- > 0)) columns.push_back(static_cast<Index>(j));
}

double sum_ratio(std::span<const float> row, Index k) {
  Scratch scratch;
  std::pmr::vector<Index> columns(&scratch);
  columns.reserve(static_cast<std::size_t>(k));
  largest_entries(row, k, columns);
  return sum_ratio(row, columns);
}

double sum_ratio(std::span<const float> row, std::span<const Index> largest) {
  double all = 0, part = 0;
  for (const float x : row) all += static_cast<double>(x);
  for (const Index j : largest) part += static_cast<double>(row[static_cast<std::size_t>(j)]);
  return part > 0 ? all / part : 1;
}

}  // namespace ood
