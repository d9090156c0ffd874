// Logit scaling by hand, beside the reference values and the contract.
#include "ood/detectors/lts.h"

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

using namespace ood;

namespace {

std::vector<float> scores(const OptionMap& options, const Matrix& features, const Matrix& logits) {
  Batch batch;
  batch.features = features;
  batch.logits = logits;
  Lts detector;
  detector.set_options(options);
  return detector.score(batch);
}

}  // namespace

TEST_CASE("lts: by hand") {
  Matrix features(2, 5), logits(2, 2);
  features << 1, 4, 0, 3, 2,  // the largest two of 10 sum to 7
      0, 0, 0, 0, 0;
  logits << 1, 2, 3, -1;
  const auto found = scores({{"percentile", 60.0}}, features, logits);
  const double square = 100.0 / 49;
  CHECK(found[0] ==
        doctest::Approx(std::log(std::exp(square) + std::exp(2 * square))).epsilon(1e-6));
  CHECK(found[1] == doctest::Approx(std::log(std::exp(3.0) + std::exp(-1.0))).epsilon(1e-6));
  // by default the largest 5 %, but at least one
  CHECK(scores({}, features, logits)[0] ==
        doctest::Approx(std::log(std::exp(6.25) + std::exp(12.5))).epsilon(1e-6));
}

TEST_CASE("lts: a negative entry is an error, or 0") {
  Matrix features = Matrix::Ones(3, 5);
  const Matrix logits = Matrix::Ones(3, 2);
  features(2, 0) = -1e-3f;
  CHECK_THROWS_WITH_AS(scores({}, features, logits),
                       "lts.score: features has -0.001 at row 2, column 0, expected 0 or more, as "
                       "after a ReLU; relu = true takes negative entries for 0",
                       std::domain_error);
  const auto rectified = scores({{"relu", true}}, features, logits);
  features(2, 0) = 0;
  CHECK(rectified == scores({}, features, logits));
}
