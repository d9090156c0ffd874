#include "ood/nearest_mean.h"

#include <Eigen/Eigenvalues>
#include <limits>
#include <stdexcept>

#include "errors.h"
#include "ood/kernels/elements.h"
#include "ood/scratch.h"

namespace ood {

Whitening whiten(MatrixD covariance, double ridge) {
  const Index dim = covariance.rows();
  covariance.diagonal().array() += ridge * covariance.trace() / static_cast<double>(dim);
  const Eigen::SelfAdjointEigenSolver<MatrixD> eigen(covariance);
  const VectorD& values = eigen.eigenvalues();  // ascending
  const double largest = values[dim - 1];
  if (eigen.info() != Eigen::Success || !(largest > 0))
    throw std::domain_error("the covariance is 0, expected features that vary");

  const double cutoff = static_cast<double>(dim) * std::numeric_limits<double>::epsilon() * largest;
  const Index rank = (values.array() > cutoff).count();
  const auto kept = values.tail(rank);
  return {.transform = kept.cwiseSqrt().cwiseInverse().asDiagonal() *
                       eigen.eigenvectors().rightCols(rank).transpose(),
          .rank = rank,
          .condition_number = largest / kept[0],
          .log_determinant = kept.array().log().sum()};
}

void NearestMean::fit(const MatrixD& covariance, const VectorD& center, const MatrixD& means,
                      double ridge) {
  const Whitening whitening = whiten(covariance, ridge);
  rank = whitening.rank;
  condition_number = whitening.condition_number;
  // Rows are centred in float32: take the means relative to the center as rounded, not as it was
  center_ = center.cast<float>();
  transform_ = whitening.transform.cast<float>();
  const MatrixD centered = means.rowwise() - center_.cast<double>().transpose();
  means_ = (centered * whitening.transform.transpose()).cast<float>();
  if (!transform_.allFinite() || !means_.allFinite())
    throw std::domain_error("features vary too little for float32, expected them to be scaled up");
}

void NearestMean::prepare(Index width, kernels::Precision precision) {
  if (center_.size() != width || transform_.rows() < 1 || means_.rows() < 1 ||
      transform_.cols() != center_.size() || means_.cols() != transform_.rows())
    throw_invalid(
        "shapes of center [{}], transform [{}, {}] and means [{}, {}] disagree, or not with "
        "features of width {}",
        center_.size(), transform_.rows(), transform_.cols(), means_.rows(), means_.cols(), width);
  packed_transform_ = kernels::PackedMatrix(transform_, precision);
  packed_means_ = kernels::PackedMatrix(means_, precision);
  negative_squares_.resize(static_cast<std::size_t>(means_.rows()));
  for (Index c = 0; c < means_.rows(); ++c)
    negative_squares_[static_cast<std::size_t>(c)] =
        static_cast<float>(-means_.row(c).cast<double>().squaredNorm());
}

void NearestMean::nearest(const MatrixView& x, std::span<float> out) const {
  Scratch scratch;
  const std::span<Index> nearest_class = scratch.span<Index>(x.rows());
  MatrixMap centered = scratch.matrix(x.rows(), x.cols());
  MatrixMap y = scratch.matrix(x.rows(), transform_.rows());
  MatrixMap dots = scratch.matrix(x.rows(), means_.rows());
  kernels::subtract_row(x, kernels::entries(center_), centered);
  kernels::matmul_nt(centered, packed_transform_, y);
  kernels::matmul_nt(y, packed_means_, dots);
  kernels::row_argmax_affine(dots, 2.0f, negative_squares_, nearest_class);
  kernels::row_squared_distance_selected(y, means_, nearest_class, out);
}

void NearestMean::visit(FieldVisitor& v, const std::string& prefix) {
  v.state(prefix + "rank", rank);
  v.state(prefix + "condition_number", condition_number);
  v.state(prefix + "center", center_);
  v.state(prefix + "transform", transform_);
  v.state(prefix + "means", means_);
}

}  // namespace ood
