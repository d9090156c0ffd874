// The distances by hand, beside the reference values and the contract.
#include "ood/detectors/fdbd.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace ood;

namespace {

const Matrix kWeight = (Matrix(3, 2) << 3, 0, 0, 4, -3, 0).finished();  // 5, 6 and 5 apart

Fdbd fitted(const Matrix& weight, const Fdbd::Options& options = {}) {
  const Matrix train = (Matrix(2, 2) << 0, 0, 2, 2).finished();  // mean (1, 1)
  const Head head{.weight = weight, .bias = Vector::Zero(weight.rows())};
  Batch batch;
  batch.features = train;
  MemorySource source(batch, &head);
  Fdbd detector(options);
  detector.fit(source);
  return detector;
}

std::vector<float> scores(const Fdbd& detector, const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return detector.score(batch);
}

}  // namespace

TEST_CASE("fdbd: by hand") {
  const Matrix z = (Matrix(2, 2) << 4, 5, -2, -3).finished();  // (3, 4) and (-3, -4) off the mean
  const Matrix f = (Matrix(2, 3) << 6, 1, 0, 1, 6, 11).finished();
  const auto found = scores(fitted(kWeight), z, f);
  CHECK(found[0] == doctest::Approx((5.0 / 5 + 6.0 / 6) / 2 / 5).epsilon(1e-6));
  CHECK(found[1] == doctest::Approx((10.0 / 6 + 5.0 / 5) / 2 / 5).epsilon(1e-6));
}

TEST_CASE("fdbd: a mean between two numbers of float32, far from 0") {
  const float unit = 0x1p-7f, far = 1e5f;  // next to `far`, numbers are a unit apart
  const Matrix train = (Matrix(2, 2) << far, far, far + unit, far + unit).finished();
  const Matrix z =
      (Matrix(1, 2) << far + 3 * unit, far + 4 * unit).finished();  // 2.5, 3.5 off the mean
  const Head head{.weight = kWeight, .bias = Vector::Zero(3)};
  Batch batch;
  batch.features = train;
  MemorySource source(batch, &head);
  Fdbd detector;
  detector.fit(source);
  const auto found = scores(detector, z, (Matrix(1, 3) << 6, 1, 0).finished());
  const double distance = static_cast<double>(unit) * std::hypot(2.5, 3.5);
  CHECK(found[0] == doctest::Approx((5.0 / 5 + 6.0 / 6) / 2 / distance).epsilon(1e-6));
}

TEST_CASE("fdbd: relative to the norm") {
  const Fdbd detector = fitted(kWeight, {.normalizer = Fdbd::Normalizer::norm});
  const auto found =
      scores(detector, (Matrix(1, 2) << 3, -4).finished(), (Matrix(1, 3) << 6, 1, 0).finished());
  CHECK(found[0] == doctest::Approx((5.0 / 5 + 6.0 / 6) / 2 / 5).epsilon(1e-6));
}

TEST_CASE("fdbd: a row at the mean scores infinity, or 0 where all logits are equal") {
  const Matrix z = Matrix::Ones(2, 2), f = (Matrix(2, 3) << 0, 1, 0, 2, 2, 2).finished();
  const auto found = scores(fitted(kWeight), z, f);
  CHECK(found[0] == std::numeric_limits<float>::infinity());
  CHECK(found[1] == 0);
}

TEST_CASE("fdbd: NaN or infinity in features or logits alone is enough for NaN") {
  Matrix z = Matrix::Ones(2, 2) * 3, f = (Matrix(2, 3) << 0, 1, 0, 2, 2, 2).finished();
  z(0, 1) = std::numeric_limits<float>::infinity();
  f(1, 0) = -std::numeric_limits<float>::infinity();
  for (const float s : scores(fitted(kWeight), z, f)) CHECK(std::isnan(s));
}

TEST_CASE("fdbd: classes without a boundary are an error") {
  CHECK_THROWS_WITH_AS(
      fitted((Matrix(3, 2) << 3, 0, 0, 4, 0, 4).finished()),
      "fdbd.fit: head has equal weights for classes 1 and 2, expected a boundary between them",
      std::domain_error);
  CHECK_THROWS_WITH_AS(fitted(Matrix::Ones(1, 2)), "fdbd.fit: head has 1 class, expected 2 or more",
                       std::domain_error);
}
