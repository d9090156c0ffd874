/// Kernels: whatever loops over n x d elements, on one page.
///
/// Every kernel runs on the calling thread; callers cut work into tiles of rows and spread those
/// (ood/exec.h). While a detector scores on a GPU (Exec::device), the kernels that it calls are started
/// there and their arrays are the device's; what is named b, offset, a, ... may be fitted state, which is copied
/// there once, or Scratch. Element-wise kernels are one source for all instruction sets, chosen at run time
/// (Highway); products go through matmul_nt (oneDNN), which chooses at run time too. The
/// environment variable OOD_SIMD=<target> forces a lower one for both.
///
/// Shapes: x [n, d] in rows with any stride; out [n]. A row's result depends on that row alone, not
/// on its place in the batch, to the bit. A row that holds NaN or infinity gives NaN, never a
/// number; n = 0 is fine. A MatrixMap to be written to must have the shape that is named, a Matrix is
/// resized.
///
/// u = 2^-24 = 6.0e-8, the unit roundoff of float32; L = float32 lanes of the SIMD target, 1 to 16:
/// a sum runs in L partial sums; on a GPU, in 32. Error bounds are for finite x, against exact arithmetic on the
/// float32 inputs, where nothing underflows; else 2^-149 for each term comes on top. They are
/// checked against a float64 reference for every SIMD target in tests/kernels/.
#pragma once

#include <array>
#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ood/matrix.h"

namespace ood::kernels {

/// Rows that one thread works on at a time: the product of a tile stays in cache for its epilogue.
inline constexpr Index kTileRows = 128;

// --- Instruction sets --------------------------------------------------------------------------

/// The SIMD target in use, such as "AVX3". Throws std::invalid_argument if OOD_SIMD names none that
/// this machine has; so does every kernel.
std::string simd_target();
/// All targets that this machine has and this build holds, the best first.
std::vector<std::string> simd_targets();
/// What does the products, with version and instruction set: "oneDNN 2.6.3 (AVX2)".
std::string matmul_backend();

// --- Row reductions ----------------------------------------------------------------------------

/// out_i = max_j x_ij. Exact.
void row_max(const MatrixView& x, std::span<float> out);

/// out_i = the first j at which x_ij is largest, what a network predicts; -1 for a row that holds NaN or
/// infinity.
void row_argmax(const MatrixView& x, std::span<Index> out);

/// out_i = T log sum_j exp(x_ij / T), T in [1e-30, 1e30]. Error <= u (4 |out| + T (d + 8)).
void row_log_sum_exp(const MatrixView& x, float temperature, std::span<float> out);

/// out_i = max_j log p_ij, p = softmax(x_i / T), T in [1e-30, 1e30]: -log1p of the sum over all but
/// one largest entry, so that it keeps its relative accuracy where p -> 1. Relative error <= u (d +
/// 16 + 4 max_j (max x - x_j) / T) over the terms that count.
void row_log_max_probability(const MatrixView& x, float temperature, std::span<float> out);

/// out_i = max_j log(p_ij / (1 - p_ij)), p and T as above; infinite for d = 1. Error <= u (|out| + d +
/// 16 + 4 max_j (max x - x_j) / T) over the terms that count.
void row_log_odds(const MatrixView& x, float temperature, std::span<float> out);

/// out_i = sum_j |p_ij - 1 / d|, p and T as above; in [0, 2). Relative error
/// <= u d (d / L + 16).
void row_distance_from_uniform(const MatrixView& x, float temperature, std::span<float> out);

/// out_i = sum_j p_ij^2 - 1 = -sum_j p_ij (1 - p_ij), p = softmax(x_i / T), T in [1e-30, 1e30]: in
/// [1 / d - 1, 0]. Keeps its relative accuracy where p -> 1: relative error <= u (3 d + 32 + 8
/// max_j (max x - x_j) / T) over the terms that count.
void row_negative_gini(const MatrixView& x, float temperature, std::span<float> out);

/// out_i = KL(u || p_i) = -sum_j log p_ij / d - log d >= 0, p = softmax(x_i), u = 1 / d; infinite
/// above 3.4e38. Error <= u (d + 16) (1 + max x - sum_j x_ij / d).
void row_divergence_from_uniform(const MatrixView& x, std::span<float> out);

/// out_i = sum_j p_ij log p_ij <= 0, the negated entropy of p = softmax(x_i), in [-log d, 0]. Keeps
/// its relative accuracy where p -> 1: relative error <= u (d + 16 + 2 max_j (max x - x_j)) over
/// the terms that count.
void row_negative_entropy(const MatrixView& x, std::span<float> out);

/// out_i = -sum over the `top` largest p of p^gamma (1 - p)^gamma, p = softmax(x_i), gamma > 0,
/// top >= 1; top >= d means all. 1 - p is taken without cancellation.
/// Relative error <= u ((d + 16) (1 + gamma |log p|) + 4 gamma max_j (max x - x_j)) over the terms
/// that count.
void row_generalized_entropy(const MatrixView& x, float gamma, Index top, std::span<float> out);

/// out_i = the k-th largest entry of a row, 1 <= k <= d. Exact.
void row_kth_largest(const MatrixView& x, Index k, std::span<float> out);

/// out_i = sum_j max(x_ij - t_i, 0), differences and sums in float64: relative error <= 2^-53 (d + 2).
void row_sum_above(const MatrixView& x, std::span<const float> t, std::span<double> out);

/// out_i = sum_j |x_ij|. Relative error <= u (d / L + 8).
void row_sum_of_absolutes(const MatrixView& x, std::span<float> out);

/// out[i, k] = (sum_j |x_ij|^orders[k])^(1 / orders[k]), 0 < orders[k]; the largest entry is
/// factored out, so that nothing overflows for large orders or |x|. log|x| is taken once for all
/// orders. Relative error <= u (4 + (d / L + 8 + 8 log d) / orders[k]) from orders of 0.2 on: below,
/// entries less than 2^-126 of the largest, which count as 0, may matter.
void row_norms(const MatrixView& x, std::span<const double> orders, MatrixMap out);
void row_norms(const MatrixView& x, std::span<const double> orders, Matrix& out);

/// out_i = x_i / |x_i|_2, [n, d]; out is not x. A row of zeros stays zero; no norm
/// overflows or underflows on the way. Relative error of each entry <= u (d / L + 8).
void normalize_rows(const MatrixView& x, MatrixMap out);
void normalize_rows(const MatrixView& x, Matrix& out);

// A selected row of -1, as row_argmax has it, stands for none: out_i = NaN.

/// out_i = <x_i, b_{labels_i}>, b [C, d]. Error <= u (d / L + 8) sum_j |x_ij b_j|.
void row_dot_selected(const MatrixView& x, const MatrixView& b, Labels labels,
                      std::span<float> out);

/// out_i = |x_i - b_{rows_i}|_2^2 by differences. Relative error <= u (d / L + 8).
void row_squared_distance_selected(const MatrixView& x, const MatrixView& b,
                                   std::span<const Index> rows, std::span<float> out);

/// out_i = |x_i - b_{rows_i}|_1. Relative error <= u (d / L + 8).
void row_absolute_distance_selected(const MatrixView& x, const MatrixView& b,
                                    std::span<const Index> rows, std::span<float> out);

/// The place (row, column) of the first entry in row order that is NaN or infinite.
std::optional<std::pair<Index, Index>> find_nonfinite(const MatrixView& x);

// --- Products ----------------------------------------------------------------------------------

/// How the factors of a product are held; sums are float32 always. bfloat16 is float32 with 8 bits of
/// significand in place of 24; bfloat16x3 splits each entry in two of them, x = x' + x'' + rest, and takes x' b' +
/// x' b'' + x'' b'. tf32 is float32 with 11 bits of significand, which GPUs have.
enum class Precision { float32, bfloat16x3, bfloat16, tf32 };
inline constexpr std::array<std::string_view, 4> kPrecisions = {"float32", "bfloat16x3", "bfloat16",
                                                                "tf32"};

/// What a PackedMatrix makes of `wanted`: float32 where the machine has no bfloat16 products (AVX512_BF16 or
/// AMX), or OOD_SIMD is below AVX3. They would be emulated there, slower than those of float32. So it is with
/// tf32 on every processor.
Precision available(Precision wanted);
/// The same on a GPU, which has no bfloat16x3 and takes float32 for it.
Precision available_on_gpus(Precision wanted);

/// b [m, d], laid out anew for matmul_nt. Cheap to copy (shared, immutable).
class PackedMatrix {
 public:
  /// What multiplies. For devices, b is kept as it is too, if this machine may have any.
  enum class For { processor, devices_too };

  PackedMatrix() = default;
  explicit PackedMatrix(const MatrixView& b, Precision precision = Precision::float32,
                        For used_by = For::devices_too);
  Index rows() const { return rows_; }  ///< m
  Index cols() const { return cols_; }  ///< d
  /// The one in use, see available().
  Precision precision() const { return precision_; }
  /// Whether a product allocates memory, as oneDNN does in each call: not with AVX-512, but for
  /// bfloat16 with AMX.
  bool allocates() const;
  struct Impl;
  const Impl* get() const { return impl_.get(); }
  /// For devices: b, or nullptr, and the precision that was asked for.
  const Matrix* plain() const { return plain_.get(); }
  Precision wanted() const { return wanted_; }

 private:
  Index rows_ = 0, cols_ = 0;
  Precision precision_ = Precision::float32, wanted_ = Precision::float32;
  std::shared_ptr<const Impl> impl_;
  std::shared_ptr<const Matrix> plain_;
};

/// out = x b^T, [n, m] float32, in the precision of b. |error| <= e |x_i| |b_j| (norms), with
///
///   float32      e = d u
///   bfloat16     e = 2^-7 + 1.02 d u              each factor is off by 2^-8 of itself at most
///   bfloat16x3   e = 2^-15 + 3.06 d u             x'' b'' and two rests are left out: 2^-16, twice 2^-17
///   tf32         e = 2^-10 + 1.01 d u             each factor is off by 2^-11 of itself at most
///
/// Sums are float32, in whatever order the library takes, the same for every row and every n (on a GPU, the
/// same from run to run; the tensor units that take bfloat16 and tf32 may cut off where others round: 2 d u
/// there): they make the d u, with the products of bfloat16 exact in float32 (Jeannerod & Rump, SIAM J. Matrix Anal. Appl.
/// 34, 2013: no order is worse; bfloat16x3 has 3 d terms). An infinite entry gives infinity or NaN in
/// its row.
/// With bfloat16 an entry of 3.396e38 or more counts as infinite, and numbers below 2^-126 may as 0: where
/// factors, their parts or products are that small, 2^-123 (1 + |x_ij| + |b_ij|) for each term comes on top.
void matmul_nt(const MatrixView& x, const PackedMatrix& b, MatrixMap out);
void matmul_nt(const MatrixView& x, const PackedMatrix& b, Matrix& out);

// --- Epilogues on a tile of products, dots [n, m] ----------------------------------------------

/// out_i = max_j (scale dots_ij + offset_j). Error <= 2 u (|scale dots| + |offset|) of the winner.
void row_max_affine(const MatrixView& dots, float scale, std::span<const float> offset,
                    std::span<float> out);
/// The first j at which row_max_affine takes its maximum; 0 for a row with NaN or infinity.
void row_argmax_affine(const MatrixView& dots, float scale, std::span<const float> offset,
                       std::span<Index> out);

/// out_i = log sum_j exp(scale_i dots_ij + offset_j); offset_j may be -infinity (a term that is not
/// there). Error <= u (m + 8 + 4 max_j (|scale_i dots_ij| + |offset_j|)).
void row_log_sum_exp_affine(const MatrixView& dots, std::span<const float> scale,
                            std::span<const float> offset, std::span<float> out);

/// out_ij = scale cos(dots_ij + offset_j), [n, m]. |error| <= u scale (2 |dots_ij +
/// offset_j| + 16). NaN where |dots_ij + offset_j| > 39,000: there float32 has no angle left.
void cosines(const MatrixView& dots, std::span<const float> offset, float scale, MatrixMap out);
void cosines(const MatrixView& dots, std::span<const float> offset, float scale, Matrix& out);

/// Adds rows to running column sums in the log domain: for e_ij = scale_i dots_ij + shift_i,
/// (max_j, sum_j, squares_j) stand for sum_i exp(e_ij) = exp(max_j) sum_j and sum_i exp(2 e_ij) =
/// exp(2 max_j) squares_j. Starts from (-infinity, 0, 0). The n rows of one call are summed in
/// float32, calls in float64. A NaN entry makes that column NaN. Relative error of sum_j <= u (n +
/// 8 + 4 max_i (|scale_i dots_ij| + |shift_i|)), of squares_j twice that.
void column_log_sum_exp(const MatrixView& dots, std::span<const float> scale,
                        std::span<const float> shift, std::span<double> max, std::span<double> sum,
                        std::span<double> squares);

// --- Second moments ----------------------------------------------------------------------------

/// Adds sum_i (x_i - c_i)(x_i - c_i)^T to the lower triangle of scatter [d, d], where c_i is row
/// centers_row[i] of centers [m, d]; differences, products and sums in float64. What is above
/// the diagonal has no meaning then. With v = 2^-53: |error_jk| <= (n + 4) v sum_i |x_ij - c_ij|
/// |x_ik - c_ik|.
void add_centered_scatter(const MatrixView& x, const MatrixD& centers,
                          std::span<const Index> centers_row, MatrixD& scatter);
/// Adds sum_i y_i y_i^T to the lower triangle of scatter [d, d], y [n, d]; as above with c = 0. For several
/// threads: only to the rows of one of `parts` parts, 0 <= part < parts, which together are all of them.
void add_scatter(const MatrixD& y, MatrixD& scatter, Index part = 0, Index parts = 1);

}  // namespace ood::kernels
