// The guidance by hand, beside the reference values and the contract.
#include "ood/detectors/nnguide.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ood/registry.h"

using namespace ood;

namespace {

/// One class, so that LSE(f) = f: g = (2, 0), (0, 3), (0.6, 0.8).
std::vector<float> scores(Detector& detector) {
  Matrix z(3, 2), f(3, 1), rows(3, 2), of_rows(3, 1);
  z << 5, 0, 0, 2, 3, 4;
  f << 2, 3, 1;
  rows << 0, 10, -1, 0, 0, 0;
  of_rows << 4, 2, 1;
  Batch train, batch;
  train.features = z;
  train.logits = f;
  batch.features = rows;
  batch.logits = of_rows;
  MemorySource source(train);
  detector.fit(source);
  return detector.score(batch);
}

}  // namespace

TEST_CASE("nnguide: by hand") {
  NnGuide detector({.k = 2});
  const auto found = scores(detector);
  CHECK(found[0] == doctest::Approx(4 * (3 + 0.8) / 2));
  CHECK(found[1] == doctest::Approx(2 * (0 - 0.6) / 2));
  CHECK(found[2] == 0);  // a row of zeros
}

TEST_CASE("nnguide: unweighted, the products are cosines") {
  NnGuide detector({.k = 2, .bank = NnGuide::Bank::unweighted});
  const auto found = scores(detector);
  CHECK(found[0] == doctest::Approx(4 * (1 + 0.8) / 2));
  CHECK(found[1] == doctest::Approx(2 * (0 - 0.6) / 2));
}

TEST_CASE("nnguide: without weights there is no need for the logits of the training rows") {
  CHECK(NnGuide().needs().fit.logits);
  CHECK_FALSE(
      make_detector("nnguide", {{"preset", std::string("pytorch_ood")}})->needs().fit.logits);
}

TEST_CASE("nnguide: more rows than the bank has are an error") {
  NnGuide all;
  CHECK_THROWS_WITH_AS(scores(all), "nnguide.fit: memory has 3 rows, expected k = 10 or more",
                       std::domain_error);
  const auto share = make_detector("nnguide", {{"preset", std::string("openood")}});
  CHECK_THROWS_WITH_AS(scores(*share),
                       "nnguide.fit: memory has 1 of 3 rows in the bank, expected k = 100 or more",
                       std::domain_error);
}
