#include "ood/weight_distances.h"

#include <doctest/doctest.h>

#include <stdexcept>

using namespace ood;

TEST_CASE("weight_distances: by hand") {
  const Matrix weight = (Matrix(3, 2) << 3, 0, 0, 4, -3, 0).finished();
  CHECK(weight_distances(weight) == (Matrix(3, 3) << 1, 5, 6, 5, 1, 5, 6, 5, 1).finished());
}

TEST_CASE("weight_distances: one class, or two of the same weights, have no boundary") {
  CHECK_THROWS_WITH_AS(weight_distances(Matrix::Ones(1, 2)), "head has 1 class, expected 2 or more",
                       std::domain_error);
  const Matrix weight = (Matrix(3, 2) << 1, 2, 3, 4, 1, 2).finished();
  CHECK_THROWS_WITH_AS(
      weight_distances(weight),
      "head has equal weights for classes 0 and 2, expected a boundary between them",
      std::domain_error);
}
