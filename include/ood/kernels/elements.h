/// Kernels on entries, and on the n scores of a tile: what detectors do before and after the hot ones of
/// ood/kernels.h, whose conventions are kept.
///
/// Results in float32 are rounded once, from float64 where a formula has more than one operation. `out` may be
/// the input, where both have the same shape. A vector that is named a [d] is fitted state or Scratch.
#pragma once

#include <span>

#include "ood/matrix.h"

namespace ood::kernels {

/// A vector as kernels take it.
inline std::span<const float> entries(const Vector& v) {
  return {v.data(), static_cast<std::size_t>(v.size())};
}
/// A matrix of one column as kernels take it.
inline std::span<float> entries(MatrixMap column) {
  return {column.data(), static_cast<std::size_t>(column.size())};
}

// --- Entries of rows, [n, d] -------------------------------------------------------------------

/// out_ij = x_ij - a_j.
void subtract_row(const MatrixView& x, std::span<const float> a, MatrixMap out);
/// out_ij = x_ij + a_j.
void add_row(const MatrixView& x, std::span<const float> a, MatrixMap out);
/// out_ij = x_ij a_j.
void scale_columns(const MatrixView& x, std::span<const float> a, MatrixMap out);
/// out_ij = x_ij - y_ij.
void subtract(const MatrixView& x, const MatrixView& y, MatrixMap out);
/// out_ij = x_ij.
void copy(const MatrixView& x, MatrixMap out);
/// x_ij = values_i for one column j.
void set_column(MatrixMap x, Index j, std::span<const float> values);

// --- Scores, [n] -------------------------------------------------------------------------------

/// x_i = value.
void fill(std::span<float> x, float value);
void fill(std::span<Index> x, Index value);
/// out_i = values_{rows_i}, NaN for a row below 0; values is fitted state.
void look_up(std::span<const float> values, std::span<const Index> rows, std::span<float> out);
/// x_i = factor x_i.
void scale(std::span<float> x, float factor);
/// x_i = -sqrt(x_i).
void negate_root(std::span<float> x);
/// x_i, but at least low and at most high; NaN stays.
void clamp(std::span<float> x, float low, float high);
/// out_i = a_i + factor b_i.
void add_scaled(std::span<const float> a, double factor, std::span<const float> b,
                std::span<float> out);
/// out_i = a_i b_i / divisor.
void multiply(std::span<const float> a, std::span<const float> b, double divisor,
              std::span<float> out);
/// out_i = factor a_i / b_i, 0 where a_i is 0; NaN where b_i is NaN or infinite.
void divide(std::span<const float> a, double factor, std::span<const float> b,
            std::span<float> out);
/// ConjNorm's factors of a row, from |x_i|_p and |x_i|_q in columns j and j + 1 of norms: with u = 1 / (|x_i|_p +
/// 1e-10), scale_i = u / t and shift_i = -(u |x_i|_q)^2 / 2t.
void norm_terms(const MatrixView& norms, Index j, double t, std::span<float> scale,
                std::span<float> shift);
/// x_i becomes NaN where rows_i < 0: what stands for no row.
void invalidate(std::span<float> x, std::span<const Index> rows);

}  // namespace ood::kernels
