// The temperature where it is known, beside the reference values and the contract.
#include "ood/detectors/temperature_scaling.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

namespace {

/// Fitted on rows (margin, 0) of these labels.
TemperatureScaling fitted(float margin, const std::vector<std::int64_t>& labels) {
  Matrix logits = Matrix::Zero(std::ssize(labels), 2);
  logits.col(0).setConstant(margin);
  Batch batch;
  batch.logits = logits;
  batch.labels = labels;
  MemorySource source(batch);
  TemperatureScaling detector;
  detector.fit(source);
  return detector;
}

}  // namespace

TEST_CASE("temperature_scaling: by hand, three of four rows are right") {
  // The loss is least where p = 3/4, margin / T = log 3
  for (const double temperature : {0.02, 0.5, 1.0, 2.0, 30.0, 90.0}) {
    CAPTURE(temperature);
    const auto margin = static_cast<float>(temperature * std::log(3.0));
    const auto detector = fitted(margin, {0, 0, 1, 0});
    CHECK(detector.temperature() == doctest::Approx(temperature).epsilon(1e-6));
    const Diagnostics found = detector.diagnostics();
    CHECK(found.warnings.empty());
    CHECK(std::get<double>(found.values.at(1).second) ==
          doctest::Approx(std::log(4.0) - 0.75 * std::log(3.0)));
    Matrix row(1, 2);
    row << margin, 0;
    Batch batch;
    batch.logits = row;
    CHECK(detector.score(batch)[0] == doctest::Approx(std::log(3.0)).epsilon(1e-6));
  }
}

TEST_CASE("temperature_scaling: where all rows are right, or wrong, it is at a bound and says so") {
  for (const std::int64_t label : {0, 1}) {
    const auto detector = fitted(2, {label, label});
    CHECK(detector.temperature() == doctest::Approx(label == 0 ? 0.01 : 100));
    REQUIRE(detector.diagnostics().warnings.size() == 1);
    CHECK(detector.diagnostics().warnings[0] ==
          "temperature is at a bound of [0.01, 100], beyond which the loss would fall further");
  }
}

TEST_CASE("temperature_scaling: confident rows do not tie, however small the temperature") {
  const auto detector = fitted(2, {0, 0});  // T = 0.01
  Matrix rows(2, 2);
  rows << 50, 0, 51, 0;
  Batch batch;
  batch.logits = rows;
  const auto scores = detector.score(batch);
  CHECK(scores[0] == doctest::Approx(5000));
  CHECK(scores[1] == doctest::Approx(5100));
}
