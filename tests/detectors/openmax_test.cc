// OpenMax by hand, beside the reference values and the contract.
#include "ood/detectors/openmax.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

namespace {

OpenMax fitted(const OpenMax::Options& options, const Matrix& logits,
               const std::vector<std::int64_t>& labels) {
  Batch batch;
  batch.logits = logits;
  batch.labels = labels;
  MemorySource source(batch);
  OpenMax detector(options);
  detector.fit(source);
  return detector;
}

double score(const OpenMax& detector, float f0, float f1) {
  const Matrix row = (Matrix(1, 2) << f0, f1).finished();
  Batch batch;
  batch.logits = row;
  return static_cast<double>(detector.score(batch).at(0));
}

/// Means (4, 0) and (0, 4), distances 2, 1, 3 of the rows predicted right; the last one is wrong.
Matrix seven_rows() {
  Matrix f(7, 2);
  f << 2, 0, 3, 0, 7, 0, 0, 2, 0, 3, 0, 7, 0, 9;
  return f;
}
const std::vector<std::int64_t> kLabels = {0, 0, 0, 1, 1, 1, 0};

}  // namespace

TEST_CASE("openmax: by hand") {
  // F of the distances {2, 3} is 1 - exp(-2 exp(t x) / (1 + exp(t))) for x = d - 2 and t tanh(t / 2)
  // = 2, but for 1e-4 (tests/weibull_tail_test.cc)
  const auto distribution = [](double distance) {
    constexpr double t = 2.399357;
    return 1 - std::exp(-2 * std::exp(t * (distance - 2)) / (1 + std::exp(t)));
  };
  for (const Index alpha : {1, 2, 10}) {
    CAPTURE(alpha);
    const auto detector = fitted({.tail = 2, .alpha = alpha}, seven_rows(), kLabels);
    for (const auto& [f0, f1] :
         {std::pair{4.0f, 0.0f}, {4.0f, 1.5f}, {6.0f, -1.0f}, {1.0f, 3.0f}}) {
      const double a = static_cast<double>(f0), b = static_cast<double>(f1);
      double wa = distribution(std::hypot(a - 4, b)), wb = distribution(std::hypot(a, b - 4));
      (a > b ? wb : wa) *= alpha == 1 ? 0 : 0.5;  // the second of two
      const double known = std::log(std::exp(a * (1 - wa)) + std::exp(b * (1 - wb)));
      CHECK(score(detector, f0, f1) == doctest::Approx(known - a * wa - b * wb).epsilon(2e-3));
    }
    // as unknown as can be: nothing is left of the largest logit
    CHECK(score(detector, 100, 0) == doctest::Approx(std::log(2.0) - 100).epsilon(1e-6));
    CHECK(score(detector, 1e6f, 0) == doctest::Approx(std::log(2.0) - 1e6).epsilon(1e-6));
  }
}

TEST_CASE("openmax: rows = labelled takes those that are predicted wrong too") {
  const auto detector = fitted({.tail = 2, .rows = OpenMax::Rows::labelled}, seven_rows(), kLabels);
  // class 0 has mean (3, 9/4), class 1 has (0, 4) as before
  const auto correct = fitted({.tail = 2}, seven_rows(), kLabels);
  CHECK(score(detector, 4, 0) < score(correct, 4, 0));
  CHECK(score(detector, 3, 2.25f) > score(correct, 3, 2.25f));
}

TEST_CASE("openmax: a class with less rows than a tail, or none") {
  CHECK_THROWS_WITH_AS(
      fitted({}, seven_rows(), kLabels),
      "openmax.fit: class 0 has 3 rows that are predicted as it, expected tail = 20 or more",
      std::domain_error);
  CHECK_THROWS_WITH_AS(fitted({.tail = 4, .rows = OpenMax::Rows::labelled}, seven_rows(), kLabels),
                       "openmax.fit: class 1 has 3 rows, expected tail = 4 or more",
                       std::domain_error);
  CHECK_THROWS_WITH_AS(
      fitted({.tail = 2}, seven_rows(), {1, 1, 1, 0, 0, 0, 1}),
      "openmax.fit: class 0 has 0 rows that are predicted as it, expected tail = 2 or more",
      std::domain_error);
}

TEST_CASE("openmax: distances that are all the same have no Weibull distribution") {
  Matrix f(4, 2);
  f << 2, 0, 4, 0, 0, 2, 0, 5;
  CHECK_THROWS_WITH_AS(
      fitted({.tail = 2}, f, {0, 0, 1, 1}),
      "openmax.fit: class 0: tail of 2 distances has 1 alone, expected 2 different ones",
      std::domain_error);
}
