// The two errors by hand, beside the reference values and the contract.
#include "ood/detectors/cadref.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace ood;

namespace {

/// Means (2, 0) of class 0 and (0, 1) of class 1; largest logits 4, 4, 1.
Cadref fitted(Cadref::Confidence confidence, float shift = 0) {
  const Matrix z = (Matrix(3, 2) << 1, 0, 3, 0, 0, 1).finished();
  const Matrix f = (Matrix(3, 2) << 4, 0, 4, 0, 0, 1).finished().array() + shift;
  const Head head{.weight = (Matrix(2, 2) << 0.5, -2, 0, 3).finished(), .bias = Vector::Zero(2)};
  Batch batch;
  batch.features = z;
  batch.logits = f;
  MemorySource source(batch, &head);
  Cadref detector({.confidence = confidence});
  detector.fit(source);
  return detector;
}

std::vector<float> scores(const Cadref& detector, const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return detector.score(batch);
}

}  // namespace

TEST_CASE("cadref: by hand") {
  const Cadref detector = fitted(Cadref::Confidence::max_logit);  // mean (4 + 4 + 1) / 3 = 3
  Matrix z(5, 2), f(5, 2);
  z << 3, 1, 3, 3, 3, 1, 1, 1, 0, 0;
  f << 2, 0, 0, 2, -1, -2, 0, -2, 2, 0;
  const auto found = scores(detector, z, f);
  // e = (1, 1), signs (+, -): one up, one down, |z|_1 = 4
  CHECK(found[0] == doctest::Approx(-(1.0 / 2 + 1.0 / 3) / 4).epsilon(1e-6));
  // e = (3, 2), signs (0, +): 2 up, |z|_1 = 6
  CHECK(found[1] == doctest::Approx(-(2.0 / 2) / 6).epsilon(1e-6));
  // As the first, with a confidence below 0; then e = (-1, 1): 2 down, which do not mind
  CHECK(found[2] == -std::numeric_limits<float>::infinity());
  CHECK(found[3] == doctest::Approx(-(2.0 / 3) / 2).epsilon(1e-6));
  CHECK(found[4] == -std::numeric_limits<float>::infinity());
}

TEST_CASE("cadref: the four confidences") {
  const double e = std::exp(1), e4 = std::exp(4);
  const double p = e4 / (1 + e4), p1 = e / (1 + e);
  const auto gen_of = [](double largest) { return 0.5 / std::pow(largest * (1 - largest), 0.1); };
  using enum Cadref::Confidence;
  const auto mean = [](Cadref::Confidence confidence) {
    return std::get<double>(fitted(confidence).diagnostics().values.at(0).second);
  };
  CHECK(mean(energy) ==
        doctest::Approx((2 * std::log(1 + e4) + std::log(1 + e)) / 3).epsilon(1e-6));
  CHECK(mean(max_logit) == doctest::Approx(3).epsilon(1e-6));
  CHECK(mean(msp) == doctest::Approx((2 * p + p1) / 3).epsilon(1e-6));
  CHECK(mean(gen) == doctest::Approx((2 * gen_of(p) + gen_of(p1)) / 3).epsilon(1e-6));
}

TEST_CASE("cadref: NaN or infinity in features or logits alone is enough for NaN") {
  Matrix z = Matrix::Ones(2, 2), f = Matrix::Ones(2, 2);
  z(0, 1) = std::nanf("");
  f(1, 0) = -std::numeric_limits<float>::infinity();
  for (const auto confidence : {Cadref::Confidence::energy, Cadref::Confidence::gen})
    for (const float s : scores(fitted(confidence), z, f)) CHECK(std::isnan(s));
}

TEST_CASE("cadref: a mean confidence of 0 or below is an error") {
  CHECK_THROWS_WITH_AS(fitted(Cadref::Confidence::max_logit, -5),
                       "cadref.fit: the mean confidence is -2.000000, expected a number above 0",
                       std::domain_error);
}

TEST_CASE("cadref: a class that nothing is predicted as is an error that names it") {
  const Head head{.weight = Matrix::Ones(2, 2), .bias = Vector::Zero(2)};
  const Matrix z = Matrix::Ones(1, 2), f = (Matrix(1, 2) << 1, 0).finished();
  Batch batch;
  batch.features = z;
  batch.logits = f;
  MemorySource source(batch, &head);
  CHECK_THROWS_WITH_AS(Cadref().fit(source),
                       "cadref.fit: class 1 is predicted for 0 rows, expected 1 or more",
                       std::domain_error);
}
