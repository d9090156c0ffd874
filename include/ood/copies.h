/// Several copies of an output, [K, n, D]: what the detectors that compare copies share. What has an
/// `out` is a kernel, with the conventions of ood/kernels.h: a row with NaN or infinity in any copy
/// gives NaN. Computed in float64, on GPUs too, where nothing else is said.
#pragma once

#include <span>
#include <string_view>

#include "ood/matrix.h"

namespace ood {

/// Copy k as rows, [n, D].
MatrixView copy_rows(const Tensor3View& copies, Index k);

/// The [K n, D] rows of K copies, one copy after the other, as [K, n, D].
Tensor3View copies_of_rows(const MatrixView& rows, Index copies);

/// Throws std::domain_error if there are less than `least` copies; `what` is their name.
void require_copies(const Tensor3View& copies, std::string_view what, Index least);

/// out = 1/K sum_k x^k, [n, D], summed in float64; a row with NaN or infinity in any copy has it in
/// its mean.
void mean_of_copies(const Tensor3View& copies, MatrixMap out);

/// Of p^k = softmax(f^k), [K, C], and m = 1/K sum_k p^k.
enum class ProbabilityStatistic {
  log_largest_mean,          ///< max_c log m_c
  negative_entropy_of_mean,  ///< sum_c m_c log m_c
  /// -1/K sum_k KL(p^k, m), as -1/K sum_k sum_c m_c g(p^k_c / m_c - 1), g(x) = (1 + x) log(1 + x) - x:
  /// no term is below 0
  negative_mutual_information,
  negative_variance,  ///< -1/C sum_c 1/(K - 1) sum_k (p^k_c - m_c)^2
};

/// out_i = the statistic of row i of the logits [K, n, C]. The largest entry of m is known by what
/// the others leave over, so that log m and p^k - m keep their relative accuracy where p -> 1.
void score_probabilities(const Tensor3View& logits, ProbabilityStatistic statistic,
                         std::span<float> out);

/// Of the cosines c_k of a row with those of its copies, less 1.
enum class CosineStatistic {
  mean,               ///< 1/K sum_k c_k - 1
  smallest,           ///< min_k c_k - 1
  negative_variance,  ///< -1/(K - 1) sum_k (c_k - 1/K sum_j c_j)^2
};

/// out_i = the statistic of z_i and z^k_i, z [n, D]. 1 - c is taken as half the squared distance of
/// unit vectors, so that nothing cancels where the cosine is near 1. c = 0 where either is a row of
/// zeros.
void score_cosines(const MatrixView& z, const Tensor3View& copies, CosineStatistic statistic,
                   std::span<float> out);

/// out_i = max_c #{k: c = argmax f^k_i} / K - 1. Of entries that tie the first counts.
void variation_ratio(const Tensor3View& logits, std::span<float> out);

/// out_i = 1/K sum_k sum_c p^k_c log p^k_c; each sum over c is kernels::row_negative_entropy, float32.
void mean_negative_entropy(const Tensor3View& logits, std::span<float> out);

/// CrossMax of members f^m [n, C], out [n, C]: with a_mc = f_mc - max_c f_mc, the k-th largest of
/// a_1c, a_2c, ... less the largest of them; k = 0: their median, the mean of the middle two of an
/// even number.
void cross_max(const Tensor3View& members, Index k, MatrixMap out);

}  // namespace ood
