// tests/python/test_combined.py compares scores with numpy; here what needs no numbers.
#include "ood/detectors/layers.h"

#include <doctest/doctest.h>

#include <map>

#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

const auto kTrain = test::make_everything(400, 9, 3, 1);
const auto kVal = test::make_everything(100, 9, 3, 2);
const auto kTest = test::make_everything(50, 9, 3, 3);

std::string message_of(const auto& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("layers: one layer is its detector, standardised") {
  MemorySource train(kTrain.batch(), &kTrain.head);
  Layers layers({.detector = "mahalanobis", .layers = "b"});
  layers.fit(train);
  Batch of_layer, test_of_layer;
  of_layer.features = kTrain.layers.at("b");
  of_layer.labels = kTrain.labels;
  test_of_layer.features = kTest.layers.at("b");
  MemorySource alone(of_layer);
  const auto single = make_detector("mahalanobis");
  single->fit(alone);
  const auto scores = layers.score(kTest.batch()), expected = single->score(test_of_layer);
  // an affine map: the same quotient for any two rows
  const double slope =
      static_cast<double>(scores[1] - scores[0]) / static_cast<double>(expected[1] - expected[0]);
  CHECK(slope > 0);
  for (std::size_t i = 2; i < 50; ++i)
    CHECK(static_cast<double>(scores[i] - scores[0]) ==
          doctest::Approx(slope * static_cast<double>(expected[i] - expected[0])).epsilon(1e-4));
}

TEST_CASE("layers: all of the file in the order of their names, or those that are named") {
  MemorySource train(kTrain.batch(), &kTrain.head);
  Layers all, some({.layers = "b,a"});
  all.fit(train);
  some.fit(train);
  CHECK(all.diagnostics().values[1].first == "a.rank");
  CHECK(some.diagnostics().values[1].first == "b.rank");
  const auto scores = all.score(kTest.batch()), other = some.score(kTest.batch());
  for (std::size_t i = 0; i < 50; ++i) CHECK(scores[i] == doctest::Approx(other[i]));
}

TEST_CASE("layers: a layer that is not there is named, with those that are") {
  MemorySource train(kTrain.batch(), &kTrain.head);
  CHECK(message_of([&] { Layers({.layers = "a,conv"}).fit(train); }) ==
        "layers.fit: memory has no layer conv, expected one of a, b");
  Layers layers;
  layers.fit(train);
  Batch batch = kTest.batch();
  batch.layers.erase("b");
  CHECK(message_of([&] { layers.score(batch); }) ==
        "layers.score: batch has no layer b, expected a,b");
}

TEST_CASE("layers: only detectors of features alone can be on each layer") {
  const std::map<std::string, std::string> refused = {{"energy", "logits"},
                                                      {"vim", "features, logits, head"},
                                                      {"residual", "features, head"},
                                                      {"layers", "labels, layers"}};
  for (const auto& entry : refused) {
    const std::string &text = entry.first, &needs = entry.second;
    CAPTURE(text);
    CHECK(message_of([&] { Layers({.detector = text}); }) ==
          "layers: option detector has " + text +
              ", expected one that reads features, and of the rest at most logits and labels: it "
              "needs " +
              needs);
  }
}

TEST_CASE("layers: fitted on id_val where the detector asks for it; outliers where it does") {
  const auto noise = test::make_everything(40, 9, 3, 4, 0.01);
  MemorySource train(kTrain.batch()), val(kVal.batch()), outliers(noise.batch());
  Layers layers({.detector = "linear_probe"});
  CHECK(layers.needs().split == Split::id_val);
  CHECK((layers.needs().outliers.names() == std::vector<std::string>{"layers"}));
  layers.fit({.train = &train, .id_val = &val, .ood_val = {{"noise", &outliers}}});
  const auto scores = layers.score(kTest.batch()), of_noise = layers.score(noise.batch());
  double right = 0;
  for (const float a : scores)
    for (const float b : of_noise) right += a > b;
  CHECK(right / (50.0 * 40.0) > 0.9);
}
