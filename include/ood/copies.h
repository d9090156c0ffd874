/// Several copies of an output, [K, n, D]: what the detectors that compare copies share.
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <string_view>

#include "ood/matrix.h"

namespace ood {

/// Copy k as rows, [n, D].
MatrixView copy_rows(const Tensor3View& copies, Index k);

/// Throws std::domain_error if there are less than `least` copies; `what` is their name.
void require_copies(const Tensor3View& copies, std::string_view what, Index least);

/// out = 1/K sum_k x^k, [n, D], summed in float64; a row with NaN or infinity in any copy has it in
/// its mean.
void mean_of_copies(const Tensor3View& copies, MatrixMap out);

/// p^k = softmax of copy k of one row, and their mean m = 1/K sum_k p^k, in float64. The largest
/// entry of m is known by what the others leave over, so that log m and p^k - m keep their relative
/// accuracy where p -> 1. What is below 1e-308 is 0.
class CopyProbabilities {
 public:
  /// Takes row i of copies [K, n, C]; false if it holds NaN or infinity.
  bool set(const Tensor3View& copies, Index i);

  Index copies() const { return p_.rows(); }
  Index classes() const { return p_.cols(); }
  double p(Index k, Index c) const { return p_(k, c); }
  double mean(Index c) const { return mean_[c]; }
  /// The first c at which m is largest.
  Index top() const { return top_; }
  /// log m_c; -infinity where m_c is 0.
  double log_mean(Index c) const {
    return c == top_ && mean_rest_ < 0.5 ? std::log1p(-mean_rest_) : std::log(mean_[c]);
  }
  /// p^k_c - m_c.
  double deviation(Index k, Index c) const {
    return c == top_ ? mean_rest_ - rest_[k] : p_(k, c) - mean_[c];
  }

 private:
  MatrixD p_;     // [K, C]
  VectorD mean_;  // [C]
  Index top_ = 0;
  VectorD rest_;          // sum over c != top of p^k_c, [K]
  double mean_rest_ = 0;  // and of m_c
};

/// out_i = score(CopyProbabilities of row i); NaN for a row with NaN or infinity in any copy.
template <class Score>
void score_probabilities(const Tensor3View& logits, std::span<float> out, const Score& score) {
  thread_local CopyProbabilities row;
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = row.set(logits, static_cast<Index>(i)) ? static_cast<float>(score(row))
                                                    : std::numeric_limits<float>::quiet_NaN();
}

/// 1 - cos(z_i, z^k_i) for each copy k, [K]: half the squared distance of unit vectors in float64,
/// so that nothing cancels where the cosine is near 1. 1 where either is a row of zeros.
void cosine_distances(const MatrixView& z, const Tensor3View& copies, Index i, VectorD& out);

/// out_i = score(cosine_distances of row i); NaN for a row with NaN or infinity in it or in a copy.
template <class Score>
void score_cosines(const MatrixView& z, const Tensor3View& copies, std::span<float> out,
                   const Score& score) {
  thread_local VectorD distances;
  for (std::size_t i = 0; i < out.size(); ++i) {
    cosine_distances(z, copies, static_cast<Index>(i), distances);
    out[i] = distances.allFinite() ? static_cast<float>(score(distances))
                                   : std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace ood
