/// Kernels of single detectors: what makes a score of a row and of what the network predicts for it.
///
/// The conventions of ood/kernels.h. Arithmetic is float64 where nothing else is said, and results in float32 are
/// rounded once. predicted [n] is row_argmax of the logits, in which -1 stands for no class: out_i = NaN. Other
/// vectors and matrices are fitted state, but for lengths and confidence [n], which are results of kernels.
#pragma once

#include <span>

#include "ood/matrix.h"

namespace ood::kernels {

// --- Entries of rows, [n, d]; out may be x -----------------------------------------------------

/// out_ij = x_ij - mean_j.
void subtract_mean(const MatrixView& x, const VectorD& mean, MatrixMap out);
/// out_ij = (x_ij - mean_j) scale_j, in float32.
void standardize(const MatrixView& x, const Vector& mean, const Vector& scale, MatrixMap out);

// --- Scores, [n] -------------------------------------------------------------------------------

/// x_i = exp(x_i).
void exponentiate(std::span<float> x);
/// x_i = 1 / |x_i|.
void invert(std::span<float> x);

// --- Rows --------------------------------------------------------------------------------------

/// out_i = <x_i, weight> + intercept. Error <= 2^-53 (d + 2) (sum_j |x_ij weight_j| + |intercept|), then u |out|.
void row_affine(const MatrixView& x, const VectorD& weight, double intercept, std::span<float> out);

/// out_i = sum_c (f_iy - f_ic) / distances_yc / (C - 1) / lengths_i, y = predicted_i: logits f [n, C], distances
/// [C, C] of which none is 0. 0 where all logits are equal; NaN where lengths_i is NaN or infinite.
void row_mean_margin(const MatrixView& logits, std::span<const Index> predicted,
                     const Matrix& distances, std::span<const float> lengths, std::span<float> out);

/// out_i = max_c angle((|r|^2 q - a h, a sqrt(|r|^2 q - h^2))) / pi in [0, 1], where r = x_i - center, q =
/// distances_yc^2, a = f_iy - f_ic, h = a - (g_y - g_c) for logits f [n, C] and center_logits g [C]. An angle of
/// (0, 0) does not count.
void row_widest_angle(const MatrixView& x, const VectorD& center, const MatrixView& logits,
                      const VectorD& center_logits, std::span<const Index> predicted,
                      const Matrix& distances, std::span<float> out);

/// out_i = -(up / max(confidence_i, 0) + down / mean_confidence) / |x_i|_1, where up and down are the sums of
/// max(0, e_j) and max(0, -e_j) over e_j = sign(weight_yj) (x_ij - means_yj), y = predicted_i. What is 0 stays 0 over
/// 0. out may be confidence.
void row_relative_error(const MatrixView& x, std::span<const Index> predicted, const Matrix& means,
                        const Matrix& weight, std::span<const float> confidence,
                        double mean_confidence, std::span<float> out);

/// out_i = -log1p sum_c p_c (1 - p_c) (1 - p_c^k) / (p_c + (1 - p_c) p_c^k), p = softmax of the logits, k = g / (1 +
/// g), g = lengths_i^2. Keeps its relative accuracy where p -> 1.
void row_regret(const MatrixView& logits, std::span<const float> lengths, std::span<float> out);

/// out_ij = softmax(x_i)_j - 1 / d; a row with NaN or infinity becomes NaN.
void row_excess_probabilities(const MatrixView& x, MatrixMap out);
/// x_ij = x_ij (factor z_ij), in float32.
void scale_by(MatrixMap x, float factor, const MatrixView& z);
/// out_i = sum_j table_j,b / total with b = the number of edges [B - 1] that are not above x_ij: edges ascend, table is
/// [d, B]. The sum is exact for whole numbers.
void row_binned_share(const MatrixView& x, std::span<const float> edges, const Matrix& table,
                      double total, std::span<float> out);

/// log_p = log softmax(x_i), of which the largest is -log1p of what the others make, p = softmax(x_i), and p once more in
/// float32; all [n, d]. A row with NaN or infinity has p = NaN.
void row_log_softmax(const MatrixView& x, MatrixDMap log_p, MatrixDMap p, MatrixMap rounded);
/// out_i = -max(0, min_c sum_j p_ij (log_p_ij - templates_cj)) over the classes c = present_t whose dots_it, <p_i,
/// templates_c> as computed, is not below the largest one by more than slack; over c = predicted_i alone where dots
/// has no columns. templates [C, d].
void row_least_divergence(MatrixDMap log_p, MatrixDMap p, const MatrixView& dots, double slack,
                          std::span<const Index> present, std::span<const Index> predicted,
                          const MatrixD& templates, std::span<float> out);

/// Tails of OpenMax, [C] each: of WeibullTail.
struct WeibullTails {
  const VectorD &smallest, &shape, &log_scale;
};
/// For the `top` largest logits of a row, the first of equal ones first, c being the k-th of them (from 0):
/// w = (1 - k / top) F_c(|f_i - means_c|), revised_ic = f_ic (1 - w), others as they are, and unknown_i = sum f_ic w. A
/// row with NaN or infinity has unknown_i = NaN. means [C, C].
void row_revised_logits(const MatrixView& logits, Index top, const MatrixD& means,
                        const WeibullTails& tails, MatrixMap revised, std::span<double> unknown);
/// out_i -= less_i.
void subtract_sums(std::span<float> out, std::span<const double> less);

}  // namespace ood::kernels
