#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ood/fields.h"
#include "ood/kernels.h"
#include "ood/matrix.h"

namespace ood {

/// How far a row is from the principal subspace that holds a given share of the variance:
///
///   r(x) = |(I - U^T U)(x - mu)|_2
///   U    = the eigenvectors of the covariance S with the q largest eigenvalues l,
///          q the smallest with l_1 + ... + l_q >= share (l_1 + ... + l_D)
///
/// U [q, D] is found in float64 and applied in float32, there and back, which costs 2 q D for each
/// row; ResidualSpace, which keeps the other eigenvectors, costs D (D - q). |error| <= u_32 (2 D + 8) |x - mu|, u_32 = 2^-24;
/// with another precision about 2 e sqrt(q) |x - mu| for the e that ood/kernels.h states.
class PrincipalSpace {
 public:
  /// covariance S [D, D], mean mu [D]. Throws std::domain_error if q is not below the rank of S,
  /// the eigenvalues above D eps l_max: nothing would be left over.
  void fit(const MatrixD& covariance, const VectorD& mean, double share);
  /// After fit, or after the fields were loaded, which are checked: `width` is D.
  void prepare(Index width, kernels::Precision precision = kernels::Precision::float32);
  /// out_i = r(x_i), on the calling thread; NaN for a row with NaN or infinity.
  void residual_norms(const MatrixView& x, std::span<float> out) const;
  void visit(FieldVisitor& v);
  Index width() const { return mean_.size(); }  ///< D
  /// dim, rank and condition_number, as a detector's diagnostics show them.
  std::vector<std::pair<std::string, OptionValue>> found() const {
    return {{"dim", dim}, {"rank", rank}, {"condition_number", condition_number}};
  }

  Index dim = 0;                ///< q
  Index rank = 0;               ///< of S
  double condition_number = 0;  ///< of S on its range

 private:
  Vector mean_;   // mu [D]
  Matrix basis_;  // U [q, D]
  // derived
  kernels::PackedMatrix forth_, back_;  // U, U^T
};

}  // namespace ood
