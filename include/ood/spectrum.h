#pragma once

#include "ood/matrix.h"

namespace ood {

/// Eigenvalues and eigenvectors of a symmetric positive semi-definite matrix, such as a covariance,
/// in float64, the largest first.
struct Spectrum {
  VectorD values;      ///< [D], descending
  MatrixD directions;  ///< [D, D], an eigenvector in each row
  Index rank = 0;      ///< eigenvalues above D eps l_max, eps = 2^-52

  /// The smallest count of leading eigenvalues whose sum is at least `share` of the sum of all.
  Index count_for_share(double share) const;
};

/// Throws std::domain_error for a matrix that holds NaN or infinity.
Spectrum spectrum_of(const MatrixD& symmetric);

}  // namespace ood
