// What is WDiscOOD's own, beside the reference values and the contract.
#include "ood/detectors/wdiscood.h"

#include <doctest/doctest.h>

#include <vector>

using namespace ood;

namespace {

/// Two classes at (4, 0) and (-4, 0), S_w = diag(1, 4): x = (z_1, z_2 / 2), g = x_1 and h = x_2.
const Matrix& rows() {
  static const Matrix z =
      (Matrix(8, 2) << 5, 2, 3, -2, 5, -2, 3, 2, -3, 2, -5, -2, -3, -2, -5, 2).finished();
  return z;
}
const std::vector<std::int64_t> kLabels = {0, 0, 0, 0, 1, 1, 1, 1};

Wdiscood fitted(const Wdiscood::Options& options, const Matrix& z = rows(),
                const std::vector<std::int64_t>& labels = kLabels) {
  Batch train;
  train.features = z;
  train.labels = labels;
  MemorySource source(train);
  Wdiscood wdiscood(options);
  wdiscood.fit(source);
  return wdiscood;
}

}  // namespace

TEST_CASE("wdiscood: by hand") {
  Matrix z(2, 2);
  z << 5, 6, -4.5f, -1;
  Batch batch;
  batch.features = z;
  const auto scores = fitted({}).score(batch);
  CHECK(scores[0] == doctest::Approx(-1 - 5 * 3).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(-0.5 - 5 * 0.5).epsilon(1e-6));
  CHECK(fitted({.residual_weight = 1}).score(batch)[0] == doctest::Approx(-4).epsilon(1e-6));
}

TEST_CASE("wdiscood: what it is not defined for") {
  CHECK_THROWS_WITH_AS(fitted({.discriminants = 2}),
                       "wdiscood.fit: discriminants has 2, expected at most 1, the dimensions that "
                       "the 2 class means span (D = 2)",
                       std::domain_error);
  CHECK_THROWS_WITH_AS(fitted({}, rows().leftCols(1)),
                       "wdiscood.fit: discriminants has 1, expected less than the rank 1 of the "
                       "features within the classes (D = 1): no residual is left",
                       std::domain_error);
  CHECK_THROWS_WITH_AS(fitted({}, rows(), {0, 0, 0, 0, 2, 2, 2, 2}),
                       "wdiscood.fit: class 1 has 0 rows, expected 1 or more", std::domain_error);
  CHECK_THROWS_WITH_AS(fitted({}, rows(), {0, 1, 1, 0, 1, 0, 0, 1}),
                       "wdiscood.fit: class means do not differ, expected two or more that do",
                       std::domain_error);
  CHECK_THROWS_WITH_AS(
      fitted({}, rows().unaryExpr([](float v) { return v > 0 ? 1.0f : -1.0f; }).leftCols(1)),
      "wdiscood.fit: the covariance is 0, expected features that vary", std::domain_error);
}
