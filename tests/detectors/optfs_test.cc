// Optimal feature shaping by hand, beside the reference values and the contract.
#include "ood/detectors/optfs.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

using namespace ood;

namespace {

OptFs fitted(const Matrix& rows, const Head& head) {
  Batch batch;
  batch.features = rows;
  MemorySource source(batch, &head);
  OptFs detector;
  detector.fit(source);
  return detector;
}

}  // namespace

TEST_CASE("optfs: by hand") {
  // The quantiles are 0 and 100: bins of width 1. The contribution to the predicted logit, z, is
  // 21 / 10 in bin 10, 82 / 10 in bin 20, 0 in bin 0 and not counted at 100.
  Matrix train(10, 1), rows(6, 1);
  train << 100, 0, 10.5f, 20.5f, 20.5f, 10.5f, 0, 20.5f, 20.5f, 100;
  const Head head{.weight = (Matrix(2, 1) << 1, -1).finished(), .bias = Vector::Zero(2)};
  const OptFs detector = fitted(train, head);
  rows << 10.9f, 20, 15.5f, 100, -1, std::numeric_limits<float>::infinity();
  Batch batch;
  batch.features = rows;
  const auto scores = detector.score(batch);
  const double norm = std::sqrt(21.0 * 21 + 82 * 82);
  CHECK(scores[0] == doctest::Approx(1000 * 21 / norm * 10.9).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(1000 * 82 / norm * 20).epsilon(1e-6));
  CHECK(scores[2] == doctest::Approx(std::log(2.0)).epsilon(1e-6));  // theta is 0 there
  CHECK(scores[3] == doctest::Approx(std::log(2.0)).epsilon(1e-6));  // outside of the bins
  CHECK(scores[4] == doctest::Approx(std::log(2.0)).epsilon(1e-6));
  CHECK(std::isnan(scores[5]));
}

TEST_CASE("optfs: features or a head that leave nothing to shape are errors") {
  const Head head{.weight = Matrix::Ones(2, 2), .bias = Vector::Zero(2)};
  CHECK_THROWS_WITH_AS(
      fitted(Matrix::Constant(7, 2, 5), head),
      "optfs.fit: features has 5 at the quantiles of 0.001 and 0.999, expected two different ones",
      std::domain_error);
  const Head nothing{.weight = Matrix::Zero(2, 2), .bias = Vector::Zero(2)};
  CHECK_THROWS_WITH_AS(fitted((Matrix(2, 2) << 1, 2, 3, 4).finished(), nothing),
                       "optfs.fit: the contribution of the features to the predicted logit is 0 in "
                       "all bins, expected features and a head that are not 0",
                       std::domain_error);
}
