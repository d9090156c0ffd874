// The distance to neighbours by hand; more is in registry_test.cc.
#include "ood/detectors/knn.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ood/registry.h"

using namespace ood;

namespace {

/// On a line: the distances of 0 to these rows are 0, 1, 3, 8.
Matrix line() { return (Matrix(4, 2) << 3, 0, 0, 0, -8, 0, 1, 0).finished(); }

float score_of_zero(Knn knn) {
  const Matrix rows = line(), zero = Matrix::Zero(1, 2);
  Batch train, query;
  train.features = rows;
  query.features = zero;
  MemorySource source(train);
  knn.fit(source);
  return knn.score(query)[0];
}

}  // namespace

TEST_CASE("knn: the k-th distance and the mean of k, by hand") {
  CHECK(score_of_zero(Knn({.k = 3, .normalize = false})) == doctest::Approx(-3));
  CHECK(score_of_zero(Knn({.k = 3, .normalize = false, .aggregate = Knn::Aggregate::mean})) ==
        doctest::Approx(-4.0 / 3));
  CHECK(score_of_zero(Knn({.k = 1, .normalize = false, .aggregate = Knn::Aggregate::mean})) == 0);
}

TEST_CASE("knn: the distance to a share of the rows") {
  // Seed 0 draws rows 0 and 3 of 4: tests/reference/row_sample.py
  CHECK(score_of_zero(Knn({.k = 1, .normalize = false, .bank_share = 0.5})) == doctest::Approx(-1));
  CHECK(score_of_zero(Knn({.k = 2, .normalize = false, .bank_share = 0.5})) == doctest::Approx(-3));
  CHECK_THROWS_WITH_AS(score_of_zero(Knn({.k = 3, .bank_share = 0.5})),
                       "knn.fit: memory has 2 of 4 rows in the bank, expected k = 3 or more",
                       std::domain_error);
}

TEST_CASE("knn: the preset is the nearest row, at its own length") {
  const auto knn = make_detector("knn", {{"preset", std::string("pytorch_ood")}});
  const Matrix rows = line(), query = (Matrix(1, 2) << 5, 0).finished();
  Batch train, batch;
  train.features = rows;
  batch.features = query;
  MemorySource source(train);
  knn->fit(source);
  CHECK(knn->score(batch)[0] == doctest::Approx(-2));
}

TEST_CASE("knn: a share is above 0 and up to 1") {
  CHECK_THROWS_WITH_AS(Knn({.bank_share = 0}),
                       "knn: option bank_share has 0, expected a number, above 0, 1 or less",
                       std::invalid_argument);
}
