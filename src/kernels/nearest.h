/// Which rows of a bank may be among the nearest, from products that are not exact.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ood/kernels.h"

namespace ood::kernels {

/// What is known of the bank rows of one block of products, an entry for each.
struct BankRows {
  std::span<const float> offsets, norms, residuals;
};

/// How far off a key may be: scale_norm norm_j + scale_residual residual_j + scale_offset |offset_j|
/// + constant, each >= 0.
struct KeyError {
  float scale_norm = 0, scale_residual = 0, scale_offset = 0, constant = 0;
};

/// Rows that were found, and key_j - error_j and key_j + error_j of each.
struct Reaching {
  float *lower, *upper;
  std::uint32_t* rows;
};

/// Rows of the block with key_j + error_j >= limit, key_j = dots_j + offset_j, in ascending order
/// from `begin` on, until the block ends or `found`, which has room for `capacity`, might not hold the
/// next 16. Row j is named first_row + j. Returns how many; `begin` becomes where it stopped. Keys that
/// are not finite are for callers to rule out. Rounds up to 4 times: relative to |dots_j|, |offset_j|
/// and error_j by u each.
std::size_t find_reaching(std::span<const float> dots, const BankRows& rows, const KeyError& error,
                          float limit, std::uint32_t first_row, std::size_t& begin,
                          std::size_t capacity, const Reaching& found);

/// The k-th largest of n values that are not NaN, 1 <= k <= n.
float kth_largest(std::span<const float> values, std::size_t k);

/// Leaves those of n rows with upper >= limit, in their order. Returns how many.
std::size_t keep_reaching(const Reaching& rows, std::size_t n, float limit);

/// float32 entries that the SIMD target adds at once: L of ood/kernels.h.
std::size_t vector_lanes();

}  // namespace ood::kernels
