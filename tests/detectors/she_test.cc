// The patterns by hand, beside the reference values and the contract.
#include "ood/detectors/she.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

namespace {

She fitted(She::Metric metric, const std::vector<std::int64_t>& labels = {0, 0, 0, 1}) {
  Matrix z(4, 2), f(4, 2);
  z << 2, 0, 4, 0, 100, 0, 0, 3;
  f << 1, 0, 1, 0, 0, 1, 0, 1;  // the third row is not classified correctly
  Batch train;
  train.features = z;
  train.logits = f;
  train.labels = labels;
  MemorySource source(train);
  She she({.metric = metric});
  she.fit(source);
  return she;
}

/// Of z = (1, 2) predicted as class 0, as class 1, as both, and without a prediction.
std::vector<float> scores(const She& she) {
  Matrix z(4, 2), f(4, 2);
  z << 1, 2, 1, 2, 1, 2, 1, 2;
  f << 1, 0, 0, 1, 1, 1, std::nanf(""), 1;
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return she.score(batch);
}

}  // namespace

TEST_CASE("she: by hand; of equal logits the first counts") {
  const auto found = scores(fitted(She::Metric::inner_product));  // S = (3, 0), (0, 3)
  CHECK(found[0] == doctest::Approx(3));
  CHECK(found[1] == doctest::Approx(6));
  CHECK(found[2] == doctest::Approx(3));
}

TEST_CASE("she: the other metrics by hand") {
  const auto distance = scores(fitted(She::Metric::euclidean));
  CHECK(distance[0] == doctest::Approx(-std::sqrt(8.0)));
  CHECK(distance[1] == doctest::Approx(-std::sqrt(2.0)));
  const auto cosine = scores(fitted(She::Metric::cosine));
  CHECK(cosine[0] == doctest::Approx(1 / std::sqrt(5.0)));
  CHECK(cosine[1] == doctest::Approx(2 / std::sqrt(5.0)));
}

TEST_CASE("she: logits that are not numbers score NaN, whatever the features") {
  for (const She::Metric metric :
       {She::Metric::inner_product, She::Metric::euclidean, She::Metric::cosine})
    CHECK(std::isnan(scores(fitted(metric))[3]));
}

TEST_CASE("she: the rows that made the patterns are counted") {
  const auto found = fitted(She::Metric::cosine).diagnostics();
  REQUIRE(found.per_class.size() == 1);
  CHECK(found.per_class[0].values == std::vector<double>{2, 1});
}

TEST_CASE("she: a class without correctly classified rows is an error that names it") {
  CHECK_THROWS_WITH_AS(fitted(She::Metric::inner_product, {0, 1, 0, 0}),
                       "she.fit: class 1 has 0 correctly classified rows, expected 1 or more",
                       std::domain_error);
}
