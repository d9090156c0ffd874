#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"
#include "ood/kernels.h"
#include "ood/matrix.h"

namespace ood {

/// What the principal directions of the features leave over, seen from where all logits are 0:
///
///   r(z) = |R (z - u)|_2,   u = -W^+ b,   M = 1/n sum_i (z_i - u)(z_i - u)^T
///
/// R [D - d, D] holds the eigenvectors of M but for those of its d largest eigenvalues. M is not
/// centred on the mean. The eigenvectors are found in float64 and applied in float32: |error| <=
/// u_32 (D + 4) sqrt(D - d) |z - u|, u_32 = 2^-24; with another precision e sqrt(D - d) |z - u| for the e that
/// ood/kernels.h states.
class ResidualSpace {
 public:
  /// u of a head, [D]: the point closest to 0 where W z + b is smallest (0 where C <= D), rounded
  /// to float32 so that fit and score mean the same point.
  static VectorD origin_of(const Head& head);
  /// The principal dimension that the authors of ViM take for features of width D.
  static Index default_dim(Index feature_dim);

  /// second_moment M [D, D] about `origin`; dim is d, 0 stands for default_dim(D). Throws
  /// std::domain_error if d is not below the rank of M, the eigenvalues above D eps l_max.
  void fit(const MatrixD& second_moment, const VectorD& origin, Index dim);
  /// After fit, or after the fields were loaded, which are checked: `width` is D.
  void prepare(Index width, kernels::Precision precision = kernels::Precision::float32);
  /// out_i = r(x_i), on the calling thread; NaN for a row with NaN or infinity.
  void norms(const MatrixView& x, std::span<float> out) const;
  void visit(FieldVisitor& v);
  /// dim, rank and condition_number, as a detector's diagnostics show them.
  std::vector<std::pair<std::string, OptionValue>> found() const {
    return {{"dim", dim}, {"rank", rank}, {"condition_number", condition_number}};
  }

  Index dim = 0;                ///< d
  Index rank = 0;               ///< of M
  double condition_number = 0;  ///< of M on its range

 private:
  Vector origin_;  // u [D]
  Matrix basis_;   // R [D - d, D]
  // derived
  kernels::PackedMatrix packed_basis_;
};

}  // namespace ood
