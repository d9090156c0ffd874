#include "ood/spectrum.h"

#include <Eigen/Eigenvalues>
#include <limits>
#include <stdexcept>

namespace ood {

Index Spectrum::count_for_share(double share) const {
  const double total = values.sum();
  double sum = 0;
  for (Index count = 0; count < values.size(); ++count) {
    sum += values[count];
    if (sum >= share * total) return count + 1;
  }
  return values.size();
}

Spectrum spectrum_of(const MatrixD& symmetric) {
  const Index width = symmetric.rows();
  const Eigen::SelfAdjointEigenSolver<MatrixD> eigen(symmetric);
  if (eigen.info() != Eigen::Success)
    throw std::domain_error("the second moment has no eigendecomposition, expected finite numbers");
  Spectrum spectrum{.values = eigen.eigenvalues().reverse(),
                    .directions = eigen.eigenvectors().rowwise().reverse().transpose(),
                    .rank = 0};
  const double cutoff = static_cast<double>(width) * std::numeric_limits<double>::epsilon() *
                        std::max(spectrum.values[0], 0.0);
  spectrum.rank = (spectrum.values.array() > cutoff).count();
  return spectrum;
}

}  // namespace ood
