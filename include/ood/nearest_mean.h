#pragma once

#include <string>
#include <vector>

#include "ood/fields.h"
#include "ood/kernels.h"
#include "ood/matrix.h"

namespace ood {

/// A factor of the (pseudo-)inverse of a covariance: W^T W = S^+, W [rank, D].
///
/// From S = V diag(l) V^T in float64, W = diag(l^-1/2) V^T over the eigenvalues above D eps l_max,
/// eps = 2^-52 (the numerical range, as scipy.linalg.pinvh has it): no ridge is needed where S is
/// singular.
struct Whitening {
  MatrixD transform;            ///< W
  Index rank = 0;               ///< eigenvalues kept
  double condition_number = 0;  ///< largest / smallest eigenvalue kept
  double log_determinant = 0;   ///< of S, over the eigenvalues kept
};

/// Factors S + ridge (tr S / D) I; ridge is relative to the mean eigenvalue. Throws
/// std::domain_error if S is 0 (nothing varies).
Whitening whiten(MatrixD covariance, double ridge);

/// Squared Mahalanobis distance to the nearest of several means, under one covariance:
///
///   d^2(z) = min_c (z - mu_c)^T S^+ (z - mu_c) = |y - m_n|^2,  n = argmax_c 2 <y, m_c> - |m_c|^2
///   y = W (z - center), m_c = W (mu_c - center)
///
/// Two float32 products for each row, D x rank and rank x C, find the class; the distance to it is
/// taken by differences, so that nothing cancels where classes are tight against their separation.
/// Rows are centred first: the products then see deviations, not offsets, which matters where S is
/// ill-conditioned.
class NearestMean {
 public:
  /// covariance S [D, D], center [D], means mu [C, D].
  void fit(const MatrixD& covariance, const VectorD& center, const MatrixD& means, double ridge);
  /// After fit, or after the fields were loaded, which are checked: `width` is D.
  void prepare(Index width, kernels::Precision precision = kernels::Precision::float32);
  /// out_i = d^2(x_i), on the calling thread; NaN for a row with NaN or infinity.
  void nearest(const MatrixView& x, std::span<float> out) const;
  void visit(FieldVisitor& v, const std::string& prefix);
  /// rank and condition_number, as a detector's diagnostics show them.
  std::vector<std::pair<std::string, OptionValue>> found(const std::string& prefix) const {
    return {{prefix + "rank", rank}, {prefix + "condition_number", condition_number}};
  }

  Index rank = 0;
  double condition_number = 0;

 private:
  Vector center_;     // [D]
  Matrix transform_;  // W [rank, D]
  Matrix means_;      // m [C, rank]
  // derived
  kernels::PackedMatrix packed_transform_, packed_means_;
  std::vector<float> negative_squares_;  // -|m_c|^2
};

}  // namespace ood
