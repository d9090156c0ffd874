// VRA by hand, beside the reference values and the contract.
#include "ood/detectors/vra.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

using namespace ood;

namespace {

const Head kHead{.weight = Matrix::Identity(2, 2), .bias = Vector::Zero(2)};

Batch batch_of(const Matrix& rows) {
  Batch batch;
  batch.features = rows;
  return batch;
}

Vra fitted(const OptionMap& options) {
  Matrix train(5, 2);  // the 25th percentiles are 1 and 10, the 75th 3 and 30
  train << 4, 0, 3, 10, 2, 20, 1, 30, 0, 40;
  MemorySource source(batch_of(train), &kHead);
  Vra detector;
  detector.set_options(options);
  detector.fit(source);
  return detector;
}

/// Of one row.
float score(const Vra& detector, float a, float b) {
  Matrix row(1, 2);
  row << a, b;
  return detector.score(batch_of(row))[0];
}

/// log(e^a + e^b), as the head takes features for logits.
doctest::Approx energy(double a, double b) {
  return doctest::Approx(std::max(a, b) + std::log1p(std::exp(-std::abs(a - b)))).epsilon(1e-6);
}

const OptionMap kQuarters = {{"low", 25.0}, {"high", 75.0}};

OptionMap with(OptionMap options, const OptionMap& more) {
  options.insert(more.begin(), more.end());
  return options;
}

}  // namespace

TEST_CASE("vra: by hand") {
  SUBCASE("percentiles of each dimension; low entries become 0") {
    const Vra detector = fitted(kQuarters);
    CHECK(score(detector, 0.5f, 35) == energy(0, 30));
    CHECK(score(detector, 3.5f, 9) == energy(3, 0));
    CHECK(score(detector, 1, 10) == energy(1, 10));  // at the threshold, not below
    CHECK(score(detector, -7, 12) == energy(0, 12));
  }
  SUBCASE("low entries become the threshold") {
    const Vra detector = fitted(with(kQuarters, {{"below", std::string("clip")}}));
    CHECK(score(detector, 3.5f, 2) == energy(3, 10));
  }
  SUBCASE("VRA+ lifts what lies between, and not the thresholds") {
    const Vra detector = fitted(with(kQuarters, {{"lift", 0.5}}));
    CHECK(score(detector, 2, 11) == energy(2.5, 11.5));
    CHECK(score(detector, 9, 2) == energy(3, 0));
  }
  SUBCASE("percentiles of all entries: 1.25 and 17.5 of 0 0 1 2 3 4 10 20 30 40") {
    const Vra detector = fitted(with(kQuarters, {{"scope", std::string("all")}}));
    CHECK(score(detector, 1, 18) == energy(0, 17.5));
    CHECK(score(detector, 1.5f, 2) == energy(1.5, 2));
  }
  SUBCASE("given thresholds") {
    const Vra detector = fitted({{"preset", std::string("imagenet-resnet50")}});
    CHECK(score(detector, 0.4f, 3) == energy(0, 1));
    CHECK(score(detector, 0.6f, 0.5f) == energy(0.6, 0.5));
  }
}

TEST_CASE("vra: infinity that is cut off makes a row NaN all the same") {
  const Vra detector = fitted(kQuarters);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(std::isnan(score(detector, kInfinity, 2)));
  CHECK(std::isnan(score(detector, -kInfinity, 2)));
}

TEST_CASE("vra: with thresholds the head is all that is fitted") {
  const Matrix logits = Matrix::Zero(1, 2);
  Batch no_features;
  no_features.logits = logits;
  MemorySource source(no_features, &kHead);
  Vra detector;
  detector.set_options({{"thresholds", std::vector<double>{0, 1}}});
  detector.fit(source);
  CHECK(score(detector, 0.5f, 3) == energy(0.5, 1));
}

TEST_CASE("vra: thresholds that are not in order are an error") {
  CHECK_THROWS_WITH_AS(fitted({{"low", 95.0}}),
                       "vra.fit: low has 95, expected at most the upper one, 90",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(fitted({{"thresholds", std::vector<double>{2, 1.5}}}),
                       "vra.fit: the lower of thresholds has 2, expected at most the upper one, "
                       "1.5",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(fitted({{"thresholds", std::vector<double>{2}}}),
                       "vra.fit: thresholds has 1 numbers, expected 2 or none",
                       std::invalid_argument);
  CHECK_NOTHROW(fitted({{"low", 50.0}, {"high", 50.0}}));
}
