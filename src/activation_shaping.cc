#include "ood/activation_shaping.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "errors.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

namespace ood {

namespace {

MatrixView as_matrix(std::span<const float> row) {
  return {row.data(), 1, std::ssize(row), std::ssize(row)};
}

/// The k-th largest entry of a row, 1 <= k <= D.
float kth_largest(std::span<const float> row, Index k) {
  float kth = 0;
  kernels::row_kth_largest(as_matrix(row), k, std::span(&kth, 1));
  return kth;
}

double sum_above(std::span<const float> row, float t) {
  double sum = 0;
  kernels::row_sum_above(as_matrix(row), std::span(&t, 1), std::span(&sum, 1));
  return sum;
}

/// Whether a row may hold an entry below 0: by the signs, which a compiler can make vectors of.
bool has_sign(std::span<const float> row) {
  std::int32_t signs = 0;
  for (const float x : row) signs |= std::bit_cast<std::int32_t>(x);
  return signs < 0;
}

}  // namespace

void non_negative_rows(const Batch& tile, bool relu, MatrixMap out) {
  Scratch scratch;
  std::pmr::vector<float> largest(static_cast<std::size_t>(out.rows()), &scratch);
  kernels::row_max(*tile.features, largest);
  out = *tile.features;
  for (Index i = 0; i < out.rows(); ++i) {
    auto row = out.row(i);
    if (std::isnan(largest[static_cast<std::size_t>(i)])) {
      row.setConstant(std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    if (relu) {
      row = row.cwiseMax(0.0f);
      continue;
    }
    if (!has_sign({row.data(), static_cast<std::size_t>(row.size())})) continue;
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
  k = std::min<Index>(k, std::ssize(row));
  const float least = kth_largest(row, k);
  columns.resize(row.size());
  std::size_t count = 0;
  for (std::size_t j = 0; j < row.size(); ++j) {  // without a branch, which would be guessed wrong
    columns[count] = static_cast<Index>(j);
    count += row[j] >= least ? 1 : 0;
  }
  columns.resize(count);
  if (std::ssize(columns) == k) return;
  const auto is_least = [&](Index j) { return row[static_cast<std::size_t>(j)] == least; };
  Index ties = k - (std::ssize(columns) - std::ranges::count_if(columns, is_least));
  std::erase_if(columns, [&](Index j) { return is_least(j) && ties-- <= 0; });
}

double sum_ratio(std::span<const float> row, Index k) {
  const float least = kth_largest(row, k);
  const double part = sum_above(row, least) + static_cast<double>(k) * static_cast<double>(least);
  return part > 0 ? sum_above(row, 0.0f) / part : 1;
}

}  // namespace ood
