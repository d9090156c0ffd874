// What is NECO's own, beside the reference values and the contract.
#include "ood/detectors/neco.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ood/registry.h"

using namespace ood;

namespace {

/// mu = (0, 0, 7), sigma = (sqrt 5, 10 sqrt 5, none); of the standardised rows (1, 1, 0) / sqrt 2
/// has the variance 1.8 and (1, -1, 0) / sqrt 2 has 0.2.
const Matrix& rows() {
  static const Matrix z = (Matrix(4, 3) << 3, 30, 7, -3, -30, 7, 1, -10, 7, -1, 10, 7).finished();
  return z;
}

void fit(Neco& neco, const Matrix& z) {
  Batch train;
  train.features = z;
  MemorySource source(train);
  neco.fit(source);
}

}  // namespace

TEST_CASE("neco: by hand") {
  Neco neco({.dim = 1});
  fit(neco, rows());
  Matrix z(3, 3), logits(3, 2);
  // x = (4, 2, 0) / sqrt 5: (6 / sqrt 2) / sqrt 20; the mean; x = (0, 0, 1): a column that does not
  // vary has sigma 1, and the direction is not of it
  z << 4, 20, 7, 0, 0, 7, 0, 0, 8;
  logits << 2, 1, 3, 4, 5, 6;
  Batch batch;
  batch.features = z;
  batch.logits = logits;
  const auto scores = neco.score(batch);
  CHECK(scores[0] == doctest::Approx(2 * 3 / std::sqrt(10.0)).epsilon(1e-6));
  CHECK(scores[1] == 0);
  CHECK(scores[2] == doctest::Approx(0).epsilon(1e-6));

  Neco ratio({.dim = 1, .max_logit_factor = false});
  fit(ratio, rows());
  batch.logits.reset();
  CHECK(ratio.score(batch)[0] == doctest::Approx(3 / std::sqrt(10.0)).epsilon(1e-6));
}

TEST_CASE("neco: more directions than there are is an error with the numbers") {
  Neco neco({.dim = 3});
  CHECK_THROWS_WITH_AS(fit(neco, rows()),
                       "neco.fit: dim has 3, expected at most the rank 2 of the features (D = 3)",
                       std::domain_error);
  Neco any;
  CHECK_THROWS_WITH_AS(fit(any, Matrix::Constant(4, 3, 2.5f)),
                       "neco.fit: features do not vary in any column, expected one that does",
                       std::domain_error);
}

TEST_CASE("neco: presets") {
  const auto without = make_detector("neco", {{"preset", std::string("resnet")}});
  CHECK_FALSE(without->needs().score.logits);
  CHECK(make_detector("neco")->needs().score.logits);
  const auto other = make_detector("neco", {{"preset", std::string("pytorch_ood")}});
  CHECK(std::get<Index>(other->options().at(0).value) == 100);
}
