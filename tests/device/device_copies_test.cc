// Scores of several copies on a device, with options that are not the defaults.
#include <doctest/doctest.h>

#include "device/emulated_queue.h"
#include "ood/detectors/crossmax.h"
#include "ood/detectors/mean_msp.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Exec kDevice = {.threads = 1, .device = {Device::Kind::cuda, 0}};

void check_on_device(const Detector& detector, const Batch& batch) {
  const auto expected = detector.score(batch);
  const auto scores = detector.score(batch, kDevice);
  REQUIRE(scores.size() == expected.size());
  for (std::size_t i = 0; i < scores.size(); ++i)
    CHECK(scores[i] == doctest::Approx(expected[i]).epsilon(1e-5));
}

}  // namespace

TEST_CASE("device copies: crossmax of copies and of layers, with any statistic and k") {
  const auto emulated = test::device_to_test();
  const auto data = test::make_everything(150, 6, 5, 3);
  Batch of_copies, of_layers;
  of_copies.copy_logits = data.batch().copy_logits;
  const Matrix wide = Matrix::Random(150, 8);
  of_layers.layers = {{"a", data.logits},
                      {"b", MatrixView(wide.data(), 150, 5, 8)},
                      {"c", copy_rows(*of_copies.copy_logits, 1)}};
  using Statistic = CrossMax::Statistic;
  for (const auto statistic : {Statistic::energy, Statistic::max_logit, Statistic::msp})
    for (const Index k : {0, 2}) {
      CAPTURE(k);
      check_on_device(CrossMax({.k = k, .statistic = statistic}), of_copies);
      check_on_device(
          CrossMax({.members = CrossMax::Members::layers, .k = k, .statistic = statistic}),
          of_layers);
    }
}

TEST_CASE("device copies: mean_msp of mean logits") {
  const auto emulated = test::device_to_test();
  const auto data = test::make_everything(150, 6, 5, 3);
  check_on_device(MeanMsp({.mean = MeanMsp::Mean::logits}), data.batch());
}
