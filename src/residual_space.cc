#include "ood/residual_space.h"

#include <Eigen/QR>
#include <array>
#include <stdexcept>

#include "errors.h"
#include "ood/kernels/elements.h"
#include "ood/scratch.h"
#include "ood/spectrum.h"

namespace ood {

VectorD ResidualSpace::origin_of(const Head& head) {
  const Eigen::MatrixXd weight = head.weight.cast<double>();
  const VectorD bias = head.bias.cast<double>();
  // the least-squares solution of least norm, as the pseudo-inverse gives it
  const VectorD origin = -weight.completeOrthogonalDecomposition().solve(bias);
  if (!origin.cast<float>().allFinite())
    throw std::domain_error("-pinv(W) b of the head is not finite, expected a finite head");
  return origin.cast<float>().cast<double>();
}

Index ResidualSpace::default_dim(Index feature_dim) {
  if (feature_dim >= 2048) return 1000;
  if (feature_dim >= 768) return 512;
  return feature_dim / 2;
}

void ResidualSpace::fit(const MatrixD& second_moment, const VectorD& origin, Index wanted) {
  const Index width = second_moment.rows();
  const Spectrum spectrum = spectrum_of(second_moment);
  rank = spectrum.rank;
  condition_number = spectrum.condition_number;
  dim = wanted == 0 ? default_dim(width) : wanted;
  if (dim >= rank)
    throw std::domain_error(fmt::format(
        "dim has {}, expected less than the rank {} of the features (D = {}): no residual is left",
        dim, rank, width));
  origin_ = origin.cast<float>();
  basis_ = spectrum.directions.bottomRows(width - dim).cast<float>();
}

void ResidualSpace::prepare(Index width, kernels::Precision precision) {
  if (origin_.size() != width || basis_.rows() < 1 || basis_.cols() != origin_.size())
    throw_invalid(
        "shapes of origin [{}] and basis [{}, {}] disagree, or not with features of width {}",
        origin_.size(), basis_.rows(), basis_.cols(), width);
  packed_basis_ = kernels::PackedMatrix(basis_, precision);
}

void ResidualSpace::norms(const MatrixView& x, std::span<float> out) const {
  constexpr std::array<double, 1> kTwo = {2.0};
  Scratch scratch;
  MatrixMap moved = scratch.matrix(x.rows(), x.cols());
  MatrixMap y = scratch.matrix(x.rows(), basis_.rows());
  kernels::subtract_row(x, kernels::entries(origin_), moved);
  kernels::matmul_nt(moved, packed_basis_, y);
  kernels::row_norms(y, kTwo, MatrixMap(out.data(), x.rows(), 1));
}

void ResidualSpace::visit(FieldVisitor& v) {
  v.state("dim", dim);
  v.state("rank", rank);
  v.state("condition_number", condition_number);
  v.state("origin", origin_);
  v.state("basis", basis_);
}

}  // namespace ood
