// The gradient by hand, beside the reference values and the contract.
#include "ood/detectors/gradnorm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace ood;

namespace {

std::vector<float> scores(const GradNorm& detector, const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return detector.score(batch);
}

}  // namespace

TEST_CASE("gradnorm: by hand") {
  const Matrix z = (Matrix(1, 2) << 3, -4).finished();
  const Matrix f = (Matrix(1, 2) << std::log(3.0f), 0).finished();
  // p = (3/4, 1/4), |p - u|_1 = 1/2
  CHECK(scores(GradNorm(), z, f)[0] == doctest::Approx(7 * 0.5).epsilon(1e-6));
  // T = 2: p = sqrt(3) / (1 + sqrt(3)) and the rest
  const double p = std::sqrt(3.0) / (1 + std::sqrt(3.0));
  CHECK(scores(GradNorm({.temperature = 2}), z, f)[0] ==
        doctest::Approx(7 * 2 * (p - 0.5) / 2).epsilon(1e-6));
}

TEST_CASE("gradnorm: far from uniform, close to it, and uniform") {
  const Matrix z = Matrix::Ones(3, 1), f = (Matrix(3, 2) << 500, -500, 1e-6f, 0, 3, 3).finished();
  const auto found = scores(GradNorm(), z, f);
  CHECK(found[0] == 1);
  // |p - u|_1 = tanh(f / 2)
  CHECK(found[1] == doctest::Approx(std::tanh(0.5e-6)).epsilon(1e-6).scale(0));
  CHECK(found[2] == 0);
}

TEST_CASE("gradnorm: NaN or infinity in features or logits alone is enough for NaN") {
  Matrix z = Matrix::Ones(3, 2), f = Matrix::Ones(3, 2);
  z(0, 1) = std::nanf("");
  f(1, 0) = -std::numeric_limits<float>::infinity();
  f(2, 0) = std::numeric_limits<float>::infinity();
  for (const float s : scores(GradNorm(), z, f)) CHECK(std::isnan(s));
}
