// ReAct by hand, beside the reference values and the contract.
#include "ood/detectors/react.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

namespace {

const Head kHead{.weight = (Matrix(2, 1) << 1, -1).finished(), .bias = Vector::Zero(2)};

/// Of one feature.
Batch batch_of(const Matrix& rows) {
  Batch batch;
  batch.features = rows;
  return batch;
}

/// log(e^z + e^-z)
double energy(double z) { return std::abs(z) + std::log1p(std::exp(-2 * std::abs(z))); }

}  // namespace

TEST_CASE("react: by hand") {
  const Matrix train = Vector::LinSpaced(11, 0, 10);  // the 90th percentile is 9, the 85th 8.5
  MemorySource source(batch_of(train), &kHead);
  ReAct detector;
  detector.fit(source);
  CHECK(detector.clip() == 9);
  Matrix rows(3, 1);
  rows << 20, 3, -4;
  const auto scores = detector.score(batch_of(rows));
  CHECK(scores[0] == doctest::Approx(energy(9)).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(energy(3)).epsilon(1e-6));
  CHECK(scores[2] == doctest::Approx(energy(-4)).epsilon(1e-6));  // cut off above alone
  CHECK(std::get<double>(detector.diagnostics().values.at(0).second) == 9);

  detector.set_options({{"percentile", 85.0}});
  detector.fit(source);
  CHECK(detector.clip() == 8.5);
}

TEST_CASE("react: the percentile is that of the split, all entries together") {
  Matrix train(2, 1), val(3, 1);
  train << 1, 1;
  val << 2, 2, 2;
  MemorySource of_train(batch_of(train), &kHead), of_val(batch_of(val), &kHead);
  ReAct detector;
  detector.fit({.train = &of_train, .id_val = &of_val});
  CHECK(detector.clip() == 1);
  detector.set_options({{"preset", std::string("openood")}});
  detector.fit({.train = &of_train, .id_val = &of_val});
  CHECK(detector.clip() == 2);
  detector.fit({.train = &of_train});
  CHECK(detector.clip() == 1);
}

TEST_CASE("react: with a threshold the head is all that is fitted") {
  const Matrix logits = Matrix::Zero(1, 2);
  Batch no_features;
  no_features.logits = logits;
  MemorySource source(no_features, &kHead);
  ReAct detector;
  detector.set_options({{"preset", std::string("pytorch_ood")}});
  detector.fit(source);
  CHECK(detector.clip() == 1);
  Matrix rows(1, 1);
  rows << 20;
  CHECK(detector.score(batch_of(rows))[0] == doctest::Approx(energy(1)).epsilon(1e-6));
}
