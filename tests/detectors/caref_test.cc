// The relative error by hand, beside the reference values and the contract.
#include "ood/detectors/caref.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace ood;

namespace {

Caref fitted(const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  MemorySource source(batch);
  Caref detector;
  detector.fit(source);
  return detector;
}

std::vector<float> scores(const Caref& detector, const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return detector.score(batch);
}

}  // namespace

TEST_CASE("caref: by hand") {
  // Means (2, 0) of class 0 and (0, 0) of class 1
  const Caref detector = fitted((Matrix(4, 2) << 1, 0, 3, 0, 1, 1, -1, -1).finished(),
                                (Matrix(4, 2) << 1, 0, 1, 0, 0, 1, 0, 1).finished());
  const Matrix z = (Matrix(4, 2) << 3, -1, 3, -1, 0, 0, 0, 0).finished();
  const Matrix f = (Matrix(4, 2) << 1, 0, 0, 1, 1, 0, 0, 1).finished();
  const auto found = scores(detector, z, f);
  CHECK(found[0] == doctest::Approx(-2.0 / 4).epsilon(1e-6));
  CHECK(found[1] == doctest::Approx(-4.0 / 4).epsilon(1e-6));
  CHECK(found[2] == -std::numeric_limits<float>::infinity());  // 2 / 0
  CHECK(found[3] == 0);                                        // 0 / 0
}

TEST_CASE("caref: NaN or infinity in features or logits alone is enough for NaN") {
  const Caref detector = fitted(Matrix::Identity(2, 2), Matrix::Identity(2, 2));
  Matrix z = Matrix::Ones(2, 2), f = Matrix::Ones(2, 2);
  z(0, 1) = -std::numeric_limits<float>::infinity();
  f(1, 0) = std::nanf("");
  for (const float s : scores(detector, z, f)) CHECK(std::isnan(s));
}

TEST_CASE("caref: a class that nothing is predicted as is an error that names it") {
  CHECK_THROWS_WITH_AS(fitted(Matrix::Ones(2, 2), (Matrix(2, 2) << 1, 0, 3, 2).finished()),
                       "caref.fit: class 1 is predicted for 0 rows, expected 1 or more",
                       std::domain_error);
}
