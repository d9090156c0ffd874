#include "ood/copies.h"

#include "errors.h"
#include "ood/scratch.h"

namespace ood {

namespace {

Index copies_of(const Tensor3View& copies) { return static_cast<Index>(copies.shape()[0]); }

}  // namespace

MatrixView copy_rows(const Tensor3View& copies, Index k) {
  const auto& strides = copies.strides();
  return {copies.data() + k * strides[0], static_cast<Index>(copies.shape()[1]),
          static_cast<Index>(copies.shape()[2]), strides[1]};
}

void require_copies(const Tensor3View& copies, std::string_view what, Index least) {
  if (copies_of(copies) < least)
    throw std::domain_error(
        fmt::format("{} has K = {} copies, expected {} or more", what, copies_of(copies), least));
}

void mean_of_copies(const Tensor3View& copies, MatrixMap out) {
  Scratch scratch;
  MatrixDMap sum = scratch.matrix_d(out.rows(), out.cols());
  sum = copy_rows(copies, 0).cast<double>();
  for (Index k = 1; k < copies_of(copies); ++k) sum += copy_rows(copies, k).cast<double>();
  out = (sum / static_cast<double>(copies_of(copies))).cast<float>();
}

bool CopyProbabilities::set(const Tensor3View& copies, Index i) {
  const Index count = copies_of(copies), classes = static_cast<Index>(copies.shape()[2]);
  p_.resize(count, classes);
  for (Index k = 0; k < count; ++k) {
    const auto f = copy_rows(copies, k).row(i).cast<double>();
    if (!f.allFinite()) return false;
    p_.row(k) = (f.array() - f.maxCoeff()).exp();
    p_.row(k) /= p_.row(k).sum();
  }
  mean_ = p_.colwise().mean().transpose();
  mean_.maxCoeff(&top_);
  rest_ = VectorD::Zero(count);
  for (Index k = 0; k < count; ++k)
    for (Index c = 0; c < classes; ++c)
      if (c != top_) rest_[k] += p_(k, c);
  mean_rest_ = rest_.mean();
  return true;
}

void cosine_distances(const MatrixView& z, const Tensor3View& copies, Index i, VectorD& out) {
  const auto row = z.row(i).cast<double>();
  const double norm = row.norm();
  out.resize(copies_of(copies));
  for (Index k = 0; k < out.size(); ++k) {
    const auto copy = copy_rows(copies, k).row(i).cast<double>();
    const double copy_norm = copy.norm();
    // where one is zero and the other is not finite, the product of the norms is NaN
    out[k] = norm == 0 || copy_norm == 0 ? 1.0 + norm * copy_norm
                                         : 0.5 * (row / norm - copy / copy_norm).squaredNorm();
  }
}

}  // namespace ood
