// CrossMax by hand, beside the reference values and the contract.
#include "ood/detectors/crossmax.h"

#include <doctest/doctest.h>

#include <cmath>

#include "synthetic.h"

using namespace ood;

namespace {

// less the maximum of each: (0, -2, -4), (-3, 0, 0), (0, -2, -1); each class has a 0 among them
const Tensor3 kThree = {{{5, 3, 1}}, {{1, 4, 4}}, {{2, 0, 1}}};

double score(const CrossMax::Options& options) {
  Batch batch;
  batch.copy_logits.emplace(test::Everything::view_of(kThree));
  return static_cast<double>(CrossMax(options).score(batch).at(0));
}

}  // namespace

TEST_CASE("crossmax: by hand") {
  using enum CrossMax::Statistic;
  // the medians are (0, -2, -1)
  const double energy_of_three = std::log(1 + std::exp(-2) + std::exp(-1));
  CHECK(score({}) == doctest::Approx(energy_of_three).epsilon(1e-6));
  CHECK(score({.statistic = max_logit}) == 0);
  CHECK(score({.statistic = msp}) == doctest::Approx(-energy_of_three).epsilon(1e-6));
  // the largest are all 0, the third largest (-3, -2, -4)
  CHECK(score({.k = 1}) == doctest::Approx(std::log(3)).epsilon(1e-6));
  CHECK(score({.k = 3, .statistic = max_logit}) == -2);
}

TEST_CASE("crossmax: layers are members; the median of two is their mean") {
  const Matrix first = (Matrix(1, 3) << 5, 3, 1).finished(),
               second = (Matrix(1, 3) << 1, 4, 4).finished();
  Batch batch;
  batch.layers = {{"a", first}, {"b", second}};
  // (-3/2, -1, -2)
  const CrossMax detector(
      {.members = CrossMax::Members::layers, .statistic = CrossMax::Statistic::max_logit});
  CHECK(detector.score(batch).at(0) == -1);

  const Matrix narrow = Matrix::Zero(1, 2);
  batch.layers["b"] = narrow;
  CHECK_THROWS_WITH_AS(detector.score(batch),
                       "crossmax.score: layers/b has 2 columns, expected 3 as layers/a",
                       std::domain_error);
  batch.layers.erase("b");
  CHECK_THROWS_WITH_AS(detector.score(batch),
                       "crossmax.score: layers has 1 members, expected 2 or more",
                       std::domain_error);
}

TEST_CASE("crossmax: no k-th largest of fewer members") {
  CHECK_THROWS_WITH_AS(score({.k = 4}),
                       "crossmax.score: copies/logits has 3 members, expected k = 4 or more",
                       std::domain_error);
}
