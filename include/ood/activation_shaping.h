/// Shaped activations: what ash, scale, lts, adascale, vra, optfs and react make of features before the
/// logits. Kernels, which keep the conventions of ood/kernels.h.
///
/// Results are computed in float64, those in float32 rounded once at the end. `out` may be x, where both
/// have the same shape. Vectors of options and thresholds are fitted state or Scratch. The k largest
/// entries of a row are, of equal ones, the first; 1 <= k <= D.
#pragma once

#include <span>

#include "ood/batch.h"

namespace ood {

/// The features of a tile, [n, D], or max(z, 0) of them with `relu`. A row with NaN or infinity
/// becomes a row of NaN. Throws std::domain_error for a finite row with an entry below 0: names one
/// by value, row and column. Without `relu` a device is waited for, to know.
void non_negative_rows(const Batch& tile, bool relu, MatrixMap out);

// --- The largest entries of a row --------------------------------------------------------------

/// How many of D entries a percentile leaves: D - round(D percentile / 100), ties to even, but at
/// least 1.
Index kept_entries(Index dim, double percentile);

/// out_i = kept_entries(dim, least + (1 - F(q_i)) (most - least)), where F(q) is the share of the
/// numbers `sorted`, ascending, that are not above q; 0 for q_i = NaN.
void kept_by_rank(std::span<const double> q, std::span<const double> sorted, double least,
                  double most, Index dim, std::span<Index> out);

/// out_i = r_i, the sum of a row without negative entries over that of its k largest: in [1, D / k]; 1
/// for a row of zeros. Relative error <= 2^-53 (2 D + 5). O(D).
void row_sum_ratios(const MatrixView& x, Index k, std::span<double> out);
/// The same, with k of each row; NaN where that is 0.
void row_sum_ratios(const MatrixView& x, std::span<const Index> k, std::span<double> out);

/// out_ij = x_ij exp(r_i) for the k largest entries of a row, 0 for the others. No r: all are 0.
void keep_largest(const MatrixView& x, Index k, std::span<const double> r, MatrixMap out);

/// out_ij = sum_j x_ij / k for the k largest entries of a row, 0 for the others.
void share_among_largest(const MatrixView& x, Index k, MatrixMap out);

/// out_i = sum of max(y_ij, 0) over the k1 largest x_ij
///         + weight times the sum of |x_ij - y_ij| over the k2 largest x_ij,   y [n, D].
void row_shifts(const MatrixView& x, const MatrixView& y, Index k1, Index k2, double weight,
                std::span<double> out);

// --- Entries -----------------------------------------------------------------------------------

/// out_ij = x_ij exp(r_i).
void scale_rows(const MatrixView& x, std::span<const double> r, MatrixMap out);

/// out_i = r_i^2.
void square(std::span<const double> r, std::span<float> out);

/// out_ij = min(x_ij, t).
void clip_rows(const MatrixView& x, float t, MatrixMap out);

/// out_ij = l_j with `clip`, else 0, where x_ij < l_j; h_j where x_ij > h_j; x_ij + lift between.
void rectify_rows(const MatrixView& x, std::span<const double> l, std::span<const double> h,
                  bool clip, double lift, MatrixMap out);

/// out_ij = weights_b x_ij, b = floor((x_ij - left) / width); 0 where there is no such weight.
void weigh_by_bins(const MatrixView& x, double left, double width, std::span<const double> weights,
                   MatrixMap out);

}  // namespace ood
