#include "ood/principal_space.h"

#include <array>
#include <stdexcept>

#include "errors.h"
#include "ood/kernels/elements.h"
#include "ood/scratch.h"
#include "ood/spectrum.h"

namespace ood {

void PrincipalSpace::fit(const MatrixD& covariance, const VectorD& mean, double share) {
  const Spectrum spectrum = leading_spectrum(covariance, [&](const Spectrum& all) {
    rank = all.rank;
    condition_number = all.condition_number;
    dim = all.count_for_share(share);
    if (dim >= rank)
      throw std::domain_error(fmt::format(
          "variance has {}, expected a share that less than all {} directions hold in which the "
          "features vary (D = {}): no residual is left",
          share, rank, covariance.rows()));
    return dim;
  });
  mean_ = mean.cast<float>();
  basis_ = spectrum.directions.cast<float>();
}

void PrincipalSpace::prepare(Index width, kernels::Precision precision) {
  if (mean_.size() != width || basis_.rows() < 1 || basis_.cols() != mean_.size())
    throw_invalid(
        "shapes of mean [{}] and basis [{}, {}] disagree, or not with features of width {}",
        mean_.size(), basis_.rows(), basis_.cols(), width);
  forth_ = kernels::PackedMatrix(basis_, precision);
  back_ = kernels::PackedMatrix(Matrix(basis_.transpose()), precision);
}

void PrincipalSpace::residual_norms(const MatrixView& x, std::span<float> out) const {
  constexpr std::array<double, 1> kTwo = {2.0};
  Scratch scratch;
  MatrixMap moved = scratch.matrix(x.rows(), x.cols()), within = scratch.matrix(x.rows(), x.cols());
  MatrixMap y = scratch.matrix(x.rows(), basis_.rows());
  kernels::subtract_row(x, kernels::entries(mean_), moved);
  kernels::matmul_nt(moved, forth_, y);
  kernels::matmul_nt(y, back_, within);
  kernels::subtract(moved, within, moved);
  kernels::row_norms(moved, kTwo, MatrixMap(out.data(), x.rows(), 1));
}

void PrincipalSpace::visit(FieldVisitor& v) {
  v.state("dim", dim);
  v.state("rank", rank);
  v.state("condition_number", condition_number);
  v.state("mean", mean_);
  v.state("basis", basis_);
}

}  // namespace ood
