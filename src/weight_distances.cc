#include "ood/weight_distances.h"

#include <fmt/format.h>

#include <stdexcept>

namespace ood {

Matrix weight_distances(const Matrix& weight) {
  const Index classes = weight.rows();
  if (classes < 2)
    throw std::domain_error(fmt::format("head has {} class, expected 2 or more", classes));
  Matrix distances = Matrix::Ones(classes, classes);
  for (Index a = 0; a < classes; ++a)
    for (Index b = a + 1; b < classes; ++b) {
      const double distance = (weight.row(a).cast<double>() - weight.row(b).cast<double>()).norm();
      distances(a, b) = distances(b, a) = static_cast<float>(distance);
      if (distances(a, b) == 0.0f)
        throw std::domain_error(fmt::format(
            "head has equal weights for classes {} and {}, expected a boundary between them", a,
            b));
    }
  return distances;
}

}  // namespace ood
