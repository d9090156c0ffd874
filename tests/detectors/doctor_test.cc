// DOCTOR by hand, beside the reference values and the contract.
#include "ood/detectors/doctor.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

TEST_CASE("doctor: by hand, p = (1/4, 3/4) at every temperature") {
  for (const double temperature : {1.0, 0.5, 2.0, 1e-6, 1e6}) {
    CAPTURE(temperature);
    Matrix logits(1, 2);
    logits << 0, static_cast<float>(temperature * std::log(3.0));
    Batch batch;
    batch.logits = logits;
    CHECK(Doctor({.temperature = temperature}).score(batch)[0] ==
          doctest::Approx(1.0 / 16 + 9.0 / 16 - 1).epsilon(1e-6));
  }
}

TEST_CASE("doctor: samples whose sum of squares is 1 in float32 keep their order") {
  Matrix logits(3, 2);
  logits << 0, 20, 0, 40, 0, 90;
  Batch batch;
  batch.logits = logits;
  const auto scores = Doctor().score(batch);
  CHECK(scores[0] == doctest::Approx(-2 * std::exp(-20)).epsilon(1e-5));
  CHECK(scores[0] < scores[1]);
  CHECK(scores[1] < scores[2]);
  CHECK(scores[2] < 0);
}

TEST_CASE("doctor: a temperature out of range") {
  CHECK_THROWS_WITH_AS(
      Doctor({.temperature = 0}),
      "doctor: option temperature has 0, expected a number, 1e-06 or more, 1000000 or less",
      std::invalid_argument);
}
