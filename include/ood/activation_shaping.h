/// What ash, scale, lts and adascale share: rows without negative entries, and the largest entries
/// of a row.
#pragma once

#include <memory_resource>
#include <span>
#include <vector>

#include "ood/batch.h"

namespace ood {

/// The features of a tile, [n, D], or max(z, 0) of them with `relu`. A row with NaN or infinity
/// becomes a row of NaN. Throws std::domain_error for a finite row with an entry below 0: names one
/// by value, row and column.
void non_negative_rows(const Batch& tile, bool relu, MatrixMap out);

/// How many of D entries a percentile leaves: D - round(D percentile / 100), ties to even, but at
/// least 1.
Index kept_entries(Index dim, double percentile);

/// The columns of the k largest entries of a row of numbers, in ascending order; of equal entries
/// the first are taken. O(D).
void largest_entries(std::span<const float> row, Index k, std::pmr::vector<Index>& columns);

/// The sum of a row without negative entries over that of its k largest, in float64: in [1, D / k];
/// 1 for a row of zeros.
double sum_ratio(std::span<const float> row, Index k);

}  // namespace ood
