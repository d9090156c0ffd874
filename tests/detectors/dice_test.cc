// DICE by hand, beside the reference values and the contract.
#include "ood/detectors/dice.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

using namespace ood;

namespace {

Dice fitted(double percentile) {
  // mean (2, 1): contributions 2 2 6 -4
  const Head head{.weight = (Matrix(2, 2) << 1, 2, 3, -4).finished(),
                  .bias = (Vector(2) << 0.5f, -0.5f).finished()};
  const Matrix train = (Matrix(2, 2) << 1, 2, 3, 0).finished();
  Batch batch;
  batch.features = train;
  MemorySource source(batch, &head);
  Dice detector({.percentile = percentile});
  detector.fit(source);
  return detector;
}

}  // namespace

TEST_CASE("dice: by hand") {
  const Dice detector = fitted(50);  // the percentile is 2: what equals it is left out
  CHECK(std::get<Index>(detector.diagnostics().values.at(0).second) == 1);
  Matrix rows(2, 2);
  rows << 1, 7, 0, std::numeric_limits<float>::infinity();
  Batch batch;
  batch.features = rows;
  const auto scores = detector.score(batch);  // logits 0.5 and 3 - 0.5
  CHECK(scores[0] == doctest::Approx(2.5 + std::log1p(std::exp(-2.0))).epsilon(1e-6));
  CHECK(std::isnan(scores[1]));  // although the column is left out
}

TEST_CASE("dice: a percentile that leaves nothing is an error") {
  CHECK_THROWS_WITH_AS(
      fitted(100), "dice.fit: percentile has 100, which leaves 0 of 4 weights, expected 1 or more",
      std::domain_error);
}
