// MSP by hand, beside the reference values and the contract.
#include "ood/detectors/msp.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

TEST_CASE("msp: by hand, p = (1/4, 3/4) at every temperature") {
  for (const double temperature : {1.0, 0.5, 2.0, 1e-6, 1e6}) {
    CAPTURE(temperature);
    Matrix logits(1, 2);
    logits << 0, static_cast<float>(temperature * std::log(3.0));
    Batch batch;
    batch.logits = logits;
    CHECK(Msp({.temperature = temperature}).score(batch)[0] ==
          doctest::Approx(std::log(0.75)).epsilon(1e-6));
  }
}

TEST_CASE("msp: samples whose p_max is 1 in float32 keep their order") {
  Matrix logits(3, 2);
  logits << 0, 20, 0, 40, 0, 90;
  Batch batch;
  batch.logits = logits;
  const auto scores = Msp().score(batch);
  CHECK(scores[0] == doctest::Approx(-std::exp(-20)).epsilon(1e-5));
  CHECK(scores[0] < scores[1]);
  CHECK(scores[1] < scores[2]);
}

TEST_CASE("msp: mcm is the setting T = 1, which another temperature overrides") {
  Matrix cosines(1, 3);
  cosines << 0.3f, 0.2f, -0.1f;
  Batch batch;
  batch.logits = cosines;
  Msp mcm({.temperature = 7});
  mcm.set_options({{"preset", std::string("mcm")}});
  CHECK(mcm.score(batch)[0] == Msp().score(batch)[0]);
  mcm.set_options({{"preset", std::string("mcm")}, {"temperature", 0.01}});
  CHECK(mcm.score(batch)[0] == Msp({.temperature = 0.01}).score(batch)[0]);
}

TEST_CASE("msp: a temperature out of range") {
  CHECK_THROWS_WITH_AS(
      Msp({.temperature = 0}),
      "msp: option temperature has 0, expected a number, 1e-06 or more, 1000000 or less",
      std::invalid_argument);
}
