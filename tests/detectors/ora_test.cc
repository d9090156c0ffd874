// The angles by hand, beside the reference values and the contract.
#include "ood/detectors/ora.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

using namespace ood;

namespace {

/// Class means (2, -1), (-2, -1) and, of three, (0, -1): m = (0, -1), whatever the number of rows.
Ora fitted(const Matrix& weight, std::vector<std::int64_t> labels = {0, 0, 1, 2}) {
  const float last = weight.rows() == 2 ? -2 : 0;
  const Matrix train = (Matrix(4, 2) << 1, -1, 3, -1, -2, -1, last, -1).finished();
  const Head head{.weight = weight, .bias = Vector::Zero(weight.rows())};
  Batch batch;
  batch.features = train;
  batch.labels = labels;
  MemorySource source(batch, &head);
  Ora detector;
  detector.fit(source);
  return detector;
}

// Boundaries x = 0 between 0 and 1, x = -10 y between 0 and 2, x = 10 y between 1 and 2
const Matrix kWeight = (Matrix(3, 2) << 1, 0, -1, 0, 0, -10).finished();

std::vector<float> scores(const Ora& detector, const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return detector.score(batch);
}

double angle(double x0, double y0, double x1, double y1) {
  return std::acos((x0 * x1 + y0 * y1) / std::hypot(x0, y0) / std::hypot(x1, y1)) /
         std::numbers::pi;
}

}  // namespace

TEST_CASE("ora: by hand") {
  Matrix z(2, 2);
  z << 1, 0, 1, 4;
  const Matrix f = z * kWeight.transpose();  // (1, -1, 0) and (1, -1, -40): class 0
  const auto found = scores(fitted(kWeight), z, f);
  // (1, 1) from m: to (0, 1) 45 degrees; the other boundary is 1 / sqrt(101) away, at
  // (1, 0) - (1, 10) / 101
  CHECK(angle(1, 1, 1 - 1 / 101.0, 1 - 10 / 101.0) < 0.25);
  CHECK(found[0] == doctest::Approx(0.25).epsilon(1e-6));
  // (1, 5) from m: to (0, 5) 11 degrees; to (1, 4) - 41 (1, 10) / 101 = (60, -6) / 101 more
  CHECK(found[1] == doctest::Approx(angle(1, 5, 60 / 101.0, 95 / 101.0)).epsilon(1e-6));
}

TEST_CASE("ora: small angles keep their digits") {
  const Matrix weight = kWeight.topRows(2), z = (Matrix(1, 2) << 1e-5f, 0).finished();
  const auto found = scores(fitted(weight, {0, 0, 1, 1}), z, z * weight.transpose());
  CHECK(found[0] ==
        doctest::Approx(std::atan2(1e-5, 1.0) / std::numbers::pi).epsilon(1e-6).scale(0));
}

TEST_CASE("ora: where there is no angle it is 0") {
  const Matrix weight = kWeight.topRows(2);
  Matrix z(2, 2);
  z << 0, -1, 3, -1;  // m itself; a row whose projection on x = 0 is m
  const std::vector<std::int64_t> labels = {0, 0, 1, 1};
  for (const float s : scores(fitted(weight, labels), z, z * weight.transpose())) CHECK(s == 0);
}

TEST_CASE("ora: a projection behind the center") {
  // m = (-1, 0), and z = (-4, 0) is projected on x = 0, to the other side of m: half a turn
  const Matrix train = (Matrix(2, 2) << -1, 0, -1, 0).finished();
  const Head head{.weight = (Matrix(2, 2) << 1, 0, -1, 0).finished(), .bias = Vector::Zero(2)};
  const std::vector<std::int64_t> labels = {0, 1};
  Batch batch;
  batch.features = train;
  batch.labels = labels;
  MemorySource source(batch, &head);
  Ora detector;
  detector.fit(source);
  const Matrix z = (Matrix(1, 2) << -4, 0).finished();
  CHECK(scores(detector, z, z * head.weight.transpose())[0] == doctest::Approx(1).epsilon(1e-6));
}

TEST_CASE("ora: NaN or infinity in features or logits alone is enough for NaN") {
  Matrix z = Matrix::Ones(2, 2), f = Matrix::Ones(2, 3);
  z(0, 1) = std::nanf("");
  f(1, 0) = -std::numeric_limits<float>::infinity();
  for (const float s : scores(fitted(kWeight), z, f)) CHECK(std::isnan(s));
}

TEST_CASE("ora: errors") {
  CHECK_THROWS_WITH_AS(fitted(kWeight, {0, 0, 1, 1}),
                       "ora.fit: class 2 has 0 rows, expected 1 or more", std::domain_error);
  CHECK_THROWS_WITH_AS(
      fitted(Matrix::Ones(3, 2)),
      "ora.fit: head has equal weights for classes 0 and 1, expected a boundary between them",
      std::domain_error);
  CHECK_THROWS_WITH_AS(fitted(Matrix::Ones(1, 2), {0, 0, 0, 0}),
                       "ora.fit: head has 1 class, expected 2 or more", std::domain_error);
}
