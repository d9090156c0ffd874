// The scores of several copies of the logits by hand, beside the reference values and the contract.
#include <doctest/doctest.h>

#include <cmath>

#include "ood/detectors/copy_variance.h"
#include "ood/detectors/expected_entropy.h"
#include "ood/detectors/mean_logit_energy.h"
#include "ood/detectors/mean_msp.h"
#include "ood/detectors/mutual_information.h"
#include "ood/detectors/predictive_entropy.h"
#include "ood/detectors/variation_ratio.h"
#include "synthetic.h"

using namespace ood;

namespace {

double score(const Detector& detector, const Tensor3& copies) {
  Batch batch;
  batch.copy_logits.emplace(test::Everything::view_of(copies));
  return static_cast<double>(detector.score(batch).at(0));
}

// p = (3/4, 1/4) and (1/2, 1/2); their mean is (5/8, 3/8)
const Tensor3 kTwo = {{{std::log(3.0f), 0}}, {{0, 0}}};
double term(double p) { return p * std::log(p); }

}  // namespace

TEST_CASE("copies of logits: by hand") {
  CHECK(score(MeanMsp(), kTwo) == doctest::Approx(std::log(5.0 / 8)).epsilon(1e-6));
  const double root = std::sqrt(3.0);  // the mean logits are (log 3 / 2, 0)
  const MeanMsp of_logits({.mean = MeanMsp::Mean::logits});
  CHECK(score(of_logits, kTwo) == doctest::Approx(std::log(root / (1 + root))).epsilon(1e-6));
  CHECK(score(MeanLogitEnergy(), kTwo) == doctest::Approx(std::log(root + 1)).epsilon(1e-6));
  const double total = term(5.0 / 8) + term(3.0 / 8);
  const double expected = (term(3.0 / 4) + term(1.0 / 4) + 2 * term(1.0 / 2)) / 2;
  CHECK(score(PredictiveEntropy(), kTwo) == doctest::Approx(total).epsilon(1e-6));
  CHECK(score(ExpectedEntropy(), kTwo) == doctest::Approx(expected).epsilon(1e-6));
  CHECK(score(MutualInformation(), kTwo) == doctest::Approx(total - expected).epsilon(1e-6));
  // each class: deviations of 1/8 from the mean, 2 / 64 over K - 1 = 1
  CHECK(score(CopyVariance(), kTwo) == doctest::Approx(-1.0 / 32).epsilon(1e-6));
}

TEST_CASE("variation_ratio: by hand; a tie is predicted as the first class") {
  CHECK(score(VariationRatio(), {{{1, 0, 0}}, {{0, 0, 2}}, {{3, 3, 0}}}) ==
        doctest::Approx(-1.0 / 3).epsilon(1e-6));
  CHECK(score(VariationRatio(), {{{0, 1}}, {{1, 2}}}) == 0);
}

TEST_CASE("mean_msp: openood is the setting mean = logits") {
  MeanMsp detector;
  detector.set_options({{"preset", std::string("openood")}});
  CHECK(score(detector, kTwo) == score(MeanMsp({.mean = MeanMsp::Mean::logits}), kTwo));
}

TEST_CASE("copies of logits: rows whose probabilities are 0 and 1 in float32 keep their scores") {
  const Tensor3 copies = {{{60, 0}}, {{61, 0}}};
  const double a = std::exp(-60.0), b = std::exp(-61.0), m = (a + b) / 2;
  CHECK(score(MeanMsp(), copies) == doctest::Approx(-m).epsilon(1e-6));
  CHECK(score(PredictiveEntropy(), copies) == doctest::Approx(m * (std::log(m) - 1)).epsilon(1e-6));
  // the other class alone counts: 1/2 sum p log(p / m)
  const double information = (a * std::log(a / m) + b * std::log(b / m)) / 2;
  CHECK(score(MutualInformation(), copies) == doctest::Approx(-information).epsilon(1e-6));
  // far beyond what float32 holds, but both classes: -(a - b)^2 / 2
  CHECK(score(CopyVariance(), {{{20, 0}}, {{21, 0}}}) ==
        doctest::Approx(-std::pow(std::exp(-20) - std::exp(-21), 2) / 2).epsilon(1e-6));
}

TEST_CASE("mutual_information: copies that hardly differ") {
  // p = (1 +- x) / 2 with x = tanh(h / 2) for logits (+-h / 2, -+h / 2): x^2 / 2
  const float h = 1e-4f;
  const double x = std::tanh(static_cast<double>(h) / 2);
  CHECK(score(MutualInformation(), {{{h, 0}}, {{0, h}}}) ==
        doctest::Approx(-x * x / 2).epsilon(1e-6));
  CHECK(score(MutualInformation(), {{{1, 2, 3}}, {{1, 2, 3}}}) == 0);
  CHECK(score(MutualInformation(), {{{1, 2, 3}}}) == 0);
}

TEST_CASE("mutual_information: never above 0 as a score, and total less expected") {
  const auto data = test::make_everything(500, 6, 4, 3, 0, 1, 0.5);
  const auto total = PredictiveEntropy().score(data.batch()),
             expected = ExpectedEntropy().score(data.batch()),
             information = MutualInformation().score(data.batch());
  for (std::size_t i = 0; i < information.size(); ++i) {
    CHECK(information[i] <= 0);
    CHECK(information[i] == doctest::Approx(total[i] - expected[i]).epsilon(1e-5));
  }
}

TEST_CASE("copies of logits: a single copy is no sample of a variance") {
  CHECK_THROWS_WITH_AS(score(CopyVariance(), {{{1, 0}}}),
                       "copy_variance.score: copies/logits has K = 1 copies, expected 2 or more",
                       std::domain_error);
}

TEST_CASE("copies of logits: a single copy is the network itself") {
  const Tensor3 one = {{{std::log(3.0f), 0}}};
  CHECK(score(MeanMsp(), one) == doctest::Approx(std::log(0.75)).epsilon(1e-6));
  CHECK(score(PredictiveEntropy(), one) == doctest::Approx(score(ExpectedEntropy(), one)));
  CHECK(score(VariationRatio(), one) == 0);
}
