// Rules and members have tests of their own; here what Fusion does with them.
#include "ood/detectors/fusion.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

const auto kTrain = test::make_everything(400, 9, 3, 1);
const auto kVal = test::make_everything(100, 9, 3, 2);
const auto kTest = test::make_everything(50, 9, 3, 3);
const auto kNoise = test::make_everything(40, 9, 3, 4, 0.01);

}  // namespace

TEST_CASE("fusion: the mean of two standardised scores, by hand") {
  MemorySource train(kTrain.batch(), &kTrain.head), val(kVal.batch(), &kTrain.head);
  Fusion fusion({.detectors = "energy+max_cosine"});
  fusion.fit({.train = &train, .id_val = &val});
  std::vector<double> expected(50, 0);
  for (const char* name : {"energy", "max_cosine"}) {
    const auto member = make_detector(name);
    member->fit(train);
    const auto on_val = member->score(kVal.batch()), on_test = member->score(kTest.batch());
    double mean = 0, square = 0;
    for (const float s : on_val) mean += static_cast<double>(s) / 100;
    for (const float s : on_val) square += std::pow(static_cast<double>(s) - mean, 2) / 100;
    for (std::size_t i = 0; i < 50; ++i)
      expected[i] += (static_cast<double>(on_test[i]) - mean) / std::sqrt(square) / 2;
  }
  const auto scores = fusion.score(kTest.batch());
  for (std::size_t i = 0; i < 50; ++i)
    CHECK(static_cast<double>(scores[i]) == doctest::Approx(expected[i]).epsilon(1e-5));
  CHECK(std::get<std::string>(fusion.diagnostics().values[0].second) == "memory");
  CHECK(fusion.diagnostics().warnings.empty());
}

TEST_CASE("fusion: needs what its members need, and outliers where weights are learned") {
  const Fusion plain({.detectors = "energy+knn"});
  CHECK((plain.needs().score.names() == std::vector<std::string>{"features", "logits"}));
  CHECK_FALSE(plain.needs().outliers.any());
  const Fusion learned({.detectors = "energy+knn", .rule = CombinationRule::learned});
  CHECK((learned.needs().outliers.names() == std::vector<std::string>{"features", "logits"}));
  CHECK(Fusion({.detectors = "mahalanobis+vim"}).needs().fit.labels);
  CHECK(Fusion({.detectors = "mahalanobis+vim"}).needs().fit.head);
}

TEST_CASE("fusion: learned weights are in the diagnostics; calibration on train is warned of") {
  MemorySource train(kTrain.batch(), &kTrain.head), noise(kNoise.batch(), &kTrain.head);
  Fusion fusion({.detectors = "energy+knn", .rule = CombinationRule::learned});
  fusion.fit({.train = &train, .ood_val = {{"noise", &noise}}});
  const auto found = fusion.diagnostics();
  REQUIRE(found.values.size() >= 2);
  CHECK(found.values[1].first == "weights");
  CHECK(std::get<std::vector<double>>(found.values[1].second).size() == 2);
  REQUIRE(found.warnings.size() == 1);
  CHECK(found.warnings[0].starts_with("calibrated on memory, as there is no id_val"));
}

TEST_CASE("fusion: other detectors after loading, with their options") {
  MemorySource train(kTrain.batch(), &kTrain.head);
  Fusion fusion({.detectors = "knn(k=3)+knn(k=9)+mahalanobis", .rule = CombinationRule::brown});
  fusion.fit(train);
  const auto loaded = detector_from_bytes(to_bytes(fusion));
  CHECK((loaded->score(kTest.batch()) == fusion.score(kTest.batch())));
}

TEST_CASE("fusion: wrong text changes nothing; errors of members name them") {
  const auto fusion = make_detector("fusion");
  CHECK_THROWS_AS(fusion->set_options({{"detectors", std::string("energy+nonsense")}}),
                  std::invalid_argument);
  CHECK(to_text(fusion->options()[0].value) == "energy+knn");
  Batch few = kTrain.batch().slice(0, 20);
  MemorySource source(few, &kTrain.head);
  CHECK_THROWS_WITH_AS(fusion->fit(source),
                       "fusion.fit: knn.fit: memory has 20 rows, expected k = 50 or more",
                       std::domain_error);
}
