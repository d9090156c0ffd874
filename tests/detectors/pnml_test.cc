// The regret by hand, beside the reference values and the contract.
#include "ood/detectors/pnml.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

namespace {

/// X^T X = diag(3, 1, 0), whatever the lengths of the rows.
std::vector<float> scores(const Matrix& weight, const Matrix& rows) {
  Matrix z(5, 3);
  z << 1, 0, 0, 2, 0, 0, 7, 0, 0, 0, 5, 0, 0, 0, 0;
  const Head head{.weight = weight, .bias = Vector::Zero(weight.rows())};
  Batch train, batch;
  train.features = z;
  batch.features = rows;
  MemorySource source(train, &head);
  Pnml pnml;
  pnml.fit(source);
  CHECK(pnml.rank() == 2);
  return pnml.score(batch);
}

}  // namespace

TEST_CASE("pnml: by hand, equal probabilities") {
  // p = 1/2: sum_c p / (p + (1 - p) p^kappa) = 2 / (1 + 2^-kappa); g = 1/3, 1, 0
  const Matrix rows = (Matrix(4, 3) << 5, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0).finished();
  const auto found = scores(Matrix::Zero(2, 3), rows);
  CHECK(found[0] == doctest::Approx(-std::log(2 / (1 + std::exp2(-0.25)))));
  CHECK(found[1] == doctest::Approx(-std::log(2 / (1 + std::exp2(-0.5)))));
  CHECK(found[2] == 0);  // outside of the range of X^T X
  CHECK(found[3] == 0);  // a row of zeros
}

TEST_CASE("pnml: by hand, probabilities of the row at unit length") {
  const Matrix weight = (Matrix(2, 3) << std::log(3.0f), 0, 0, 0, 0, 0).finished();
  const Matrix row = (Matrix(1, 3) << 5, 0, 0).finished();  // p = 3/4, 1/4
  const double sum =
      0.75 / (0.75 + 0.25 * std::pow(0.75, 0.25)) + 0.25 / (0.25 + 0.75 * std::pow(0.25, 0.25));
  CHECK(scores(weight, row)[0] == doctest::Approx(-std::log(sum)));
}

TEST_CASE("pnml: a confident row keeps its digits") {
  // p_2 = e^-100: its term is p_2^(1 - kappa) = e^-75, and the other e^-100 times something
  const Matrix weight = (Matrix(2, 3) << 100, 0, 0, 0, 0, 0).finished();
  const Matrix row = (Matrix(1, 3) << 5, 0, 0).finished();
  CHECK(static_cast<double>(scores(weight, row)[0]) / -std::exp(-75.0) ==
        doctest::Approx(1).epsilon(1e-4));
}

TEST_CASE("pnml: rows that are all zero are an error") {
  const Matrix z = Matrix::Zero(4, 3);
  const Head head{.weight = Matrix::Zero(2, 3), .bias = Vector::Zero(2)};
  Batch train;
  train.features = z;
  MemorySource source(train, &head);
  CHECK_THROWS_WITH_AS(Pnml().fit(source),
                       "pnml.fit: features has 0 everywhere, expected rows that are not all zero",
                       std::domain_error);
}
