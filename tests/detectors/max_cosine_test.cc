// The maximum cosine by hand, beside the reference values and the contract.
#include "ood/detectors/max_cosine.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

namespace {

MaxCosine fitted(const Matrix& rows, const std::vector<std::int64_t>& labels) {
  Batch batch;
  batch.features = rows;
  batch.labels = labels;
  MemorySource source(batch);
  MaxCosine detector;
  detector.fit(source);
  return detector;
}

std::vector<float> scores(const MaxCosine& detector, const Matrix& rows) {
  Batch batch;
  batch.features = rows;
  return detector.score(batch);
}

}  // namespace

TEST_CASE("max_cosine: by hand, whatever the lengths") {
  Matrix train(3, 2), rows(4, 2);
  train << 1, 0, 3, 4, 3, 0;  // means (2, 0) and (3, 4)
  rows << 4, 3, 400, 300, -1, 0, 0, -2;
  const auto found = scores(fitted(train, {0, 1, 0}), rows);
  CHECK(found[0] == doctest::Approx(24.0 / 25).epsilon(1e-6));
  CHECK(found[1] == doctest::Approx(24.0 / 25).epsilon(1e-6));
  CHECK(found[2] == doctest::Approx(-3.0 / 5).epsilon(1e-6));
  CHECK(found[3] == 0);
}

TEST_CASE("max_cosine: a row of zeros has cosine 0, and so has a mean of zeros") {
  Matrix train(3, 2), rows(3, 2);
  train << 2, 0, 1, 1, -1, -1;  // means (2, 0) and (0, 0)
  rows << 0, 0, -1, 0, 3, 4;
  const auto found = scores(fitted(train, {0, 1, 1}), rows);
  CHECK(found[0] == 0);
  CHECK(found[1] == 0);  // -1 with the one, 0 with the other
  CHECK(found[2] == doctest::Approx(3.0 / 5).epsilon(1e-6));
}

TEST_CASE("max_cosine: rows whose norm overflows float32 score NaN") {
  Matrix train(1, 2), rows(2, 2);
  train << 1, 1;
  rows << 3e38f, 3e38f, 1e38f, 1e38f;
  const auto found = scores(fitted(train, {0}), rows);
  CHECK(std::isnan(found[0]));
  CHECK(found[1] == doctest::Approx(1).epsilon(1e-6));
}

TEST_CASE("max_cosine: a class without rows is an error that names it") {
  Matrix train(3, 2);
  train << 1, 0, 0, 1, 0, 1;
  CHECK_THROWS_WITH_AS(fitted(train, {0, 2, 2}),
                       "max_cosine.fit: class 1 has 0 rows, expected 1 or more", std::domain_error);
}
