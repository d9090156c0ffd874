// The rules by hand and in closed form; tests/python/test_combined.py has scipy and scikit-learn.
#include "ood/score_combination.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <stdexcept>

using namespace ood;

namespace {

const std::vector<std::string> kNames = {"a", "b"};

/// a: mean 2, deviation 1; b: mean 20, deviation 10.
MatrixD calibration() {
  MatrixD scores(4, 2);
  scores << 1, 10, 3, 10, 1, 30, 3, 30;
  return scores;
}

double combine(CombinationRule rule, double a, double b, const MatrixD& outliers = {}) {
  ScoreCombination combination;
  combination.fit(rule, calibration(), outliers, kNames);
  const std::array<double, 2> scores = {a, b};
  return combination.combine(scores);
}

}  // namespace

TEST_CASE("combination: mean and minimum of standardised scores, by hand") {
  CHECK(combine(CombinationRule::mean, 4, 10) == doctest::Approx((2.0 - 1.0) / 2));
  CHECK(combine(CombinationRule::minimum, 4, 10) == doctest::Approx(-1));
  CHECK(combine(CombinationRule::minimum, 2, 40) == doctest::Approx(0));
}

TEST_CASE("combination: fisher, by hand") {
  // p = (1 + 2) / 5 and (1 + 0) / 5; of chi-squared with 4 degrees P(X >= T) = exp(-T/2) (1 + T/2)
  const double half = -std::log(0.6) - std::log(0.2);
  CHECK(combine(CombinationRule::fisher, 1, 9) ==
        doctest::Approx(-half + std::log1p(half)).epsilon(1e-12));
  // a score equal to one of the calibration rows is not above it
  CHECK(combine(CombinationRule::fisher, 1, 9) == combine(CombinationRule::fisher, 2.9, 9.9));
  CHECK(combine(CombinationRule::fisher, 0.9, 9) < combine(CombinationRule::fisher, 1, 9));
}

TEST_CASE(
    "combination: fisher is a p-value where scores are independent, brown where they are not") {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  const auto draw = [&](Index rows, double common) {
    MatrixD scores(rows, 2);
    for (Index i = 0; i < rows; ++i) {
      const double shared = normal(random);
      for (Index l = 0; l < 2; ++l)
        scores(i, l) = common * shared + std::sqrt(1 - common * common) * normal(random);
    }
    return scores;
  };
  const auto rejected = [&](CombinationRule rule, double common) {
    ScoreCombination combination;
    combination.fit(rule, draw(20000, common), {}, kNames);
    const MatrixD rows = draw(20000, common);
    Index below = 0;
    for (Index i = 0; i < rows.rows(); ++i)
      below += combination.combine({rows.row(i).data(), 2}) <= std::log(0.05);
    return static_cast<double>(below) / static_cast<double>(rows.rows());
  };
  // the standard error of a share of 0.05 is 0.0015
  CHECK(rejected(CombinationRule::fisher, 0) == doctest::Approx(0.05).epsilon(0.15));
  CHECK(rejected(CombinationRule::brown, 0) == doctest::Approx(0.05).epsilon(0.15));
  CHECK(rejected(CombinationRule::fisher, 0.95) > 0.08);
  CHECK(rejected(CombinationRule::brown, 0.95) == doctest::Approx(0.05).epsilon(0.2));
}

TEST_CASE("combination: learned weights prefer the score that tells the outliers") {
  MatrixD outliers(4, 2);
  outliers << 1, -10, 3, 0, 1, -20, 3, -5;  // a is no help
  CHECK(combine(CombinationRule::learned, 3, -10, outliers) <
        combine(CombinationRule::learned, 1, 20, outliers));
  CHECK(combine(CombinationRule::learned, 2, 30, outliers) > 0);
  CHECK(combine(CombinationRule::learned, 2, -10, outliers) < 0);
}

TEST_CASE("combination: a member that scores NaN makes NaN of all, infinity does not") {
  for (const auto rule : {CombinationRule::mean, CombinationRule::minimum, CombinationRule::fisher,
                          CombinationRule::brown}) {
    CHECK(std::isnan(combine(rule, std::nan(""), 10)));
    CHECK(combine(rule, 2, -INFINITY) < combine(rule, 2, 20));
  }
}

TEST_CASE("combination: scores that cannot be compared with are errors") {
  ScoreCombination combination;
  MatrixD same = calibration();
  same.col(1).setConstant(7);
  CHECK_THROWS_WITH_AS(combination.fit(CombinationRule::mean, same, {}, kNames),
                       "b scores all 4 calibration rows 7, expected scores that vary",
                       std::domain_error);
  MatrixD infinite = calibration();
  infinite(2, 0) = -INFINITY;
  CHECK_THROWS_WITH_AS(combination.fit(CombinationRule::fisher, infinite, {}, kNames),
                       "a scores -inf at row 2 of the calibration rows, expected a number",
                       std::domain_error);
}
