// SCALE by hand, beside the reference values and the contract.
#include "ood/detectors/scale.h"

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

using namespace ood;

namespace {

const Head kHead{.weight = (Matrix(2, 5) << 1, 0, 0, 0, -1, 0, 1, 1, 0, 0).finished(),
                 .bias = (Vector(2) << 0.5f, 0).finished()};

std::vector<float> scores(const OptionMap& options, const Matrix& rows) {
  Batch batch;
  batch.features = rows;
  MemorySource source(batch, &kHead);
  Scale detector({.percentile = 60});  // 2 of 5 are in s2
  detector.set_options(options);
  detector.fit(source);
  return detector.score(batch);
}

}  // namespace

TEST_CASE("scale: by hand") {
  Matrix rows(2, 5);
  rows << 1, 0.4f, 0, 0.3f, 0.3f,  // s1 = 2, s2 = 1.4: W z = (0.7, 0.4)
      0, 0, 0, 0, 0;
  const auto found = scores({}, rows);
  const double factor = std::exp(2 / 1.4);
  CHECK(found[0] == doctest::Approx(std::log(std::exp(0.7 * factor + 0.5) + std::exp(0.4 * factor)))
                        .epsilon(1e-6));
  CHECK(found[1] == doctest::Approx(std::log(std::exp(0.5) + 1)).epsilon(1e-6));
}

TEST_CASE("scale: a negative entry is an error, or 0") {
  Matrix rows = Matrix::Ones(3, 5);
  rows(1, 4) = -2;
  CHECK_THROWS_WITH_AS(scores({}, rows),
                       "scale.score: features has -2 at row 1, column 4, expected 0 or more, as "
                       "after a ReLU; relu = true takes negative entries for 0",
                       std::domain_error);
  const auto rectified = scores({{"relu", true}}, rows);
  rows(1, 4) = 0;
  CHECK(rectified == scores({}, rows));
}
