// Shaped activations on a device: what the contract does not see, errors of rows and other options.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <stdexcept>

#include "device/emulated_queue.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Exec kDevice = {.threads = 1, .device = {Device::Kind::cuda, 0}};

/// Features that are 0 in half of the columns of each row, so that there are ties.
test::Everything with_ties() {
  test::Everything data = test::make_everything(257, 70, 5, 3);
  for (Index i = 0; i < data.features.rows(); ++i)
    for (Index j = 0; j < data.features.cols(); ++j)
      if ((i + j) % 2 == 0) data.features(i, j) = 0;
  data.features.row(5).setZero();
  data.features.row(6).setConstant(0.25f);
  return data;
}

std::unique_ptr<Detector> fitted(const char* name, const OptionMap& options,
                                 const test::Everything& data) {
  auto detector = make_detector(name, options);
  MemorySource source(data.batch(), &data.head);
  detector->fit({.train = &source, .id_val = &source});
  return detector;
}

void check_like_processor(const char* name, const OptionMap& options,
                          const test::Everything& data) {
  CAPTURE(name);
  std::string given;
  for (const auto& entry : options) given += entry.first + " = " + to_text(entry.second) + ", ";
  CAPTURE(given);
  const auto detector = fitted(name, options, data);
  const auto expected = detector->score(data.batch());
  const auto scores = detector->score(data.batch(), kDevice);
  REQUIRE(scores.size() == expected.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    CAPTURE(i);
    CHECK(scores[i] == doctest::Approx(expected[i]).epsilon(2e-5));
  }
}

}  // namespace

TEST_CASE("device shaping: options other than the defaults") {
  const auto emulated = test::device_to_test();
  const auto data = with_ties();
  for (const char* variant : {"p", "b", "s"})
    for (const double percentile : {0.0, 20.0, 65.0, 100.0})
      check_like_processor("ash", {{"variant", std::string(variant)}, {"percentile", percentile}},
                           data);
  for (const double percentile : {0.0, 20.0, 65.0, 100.0}) {
    check_like_processor("scale", {{"percentile", percentile}}, data);
    check_like_processor("lts", {{"percentile", percentile}}, data);
  }
  for (const char* variant : {"a", "l"})
    check_like_processor("adascale",
                         {{"variant", std::string(variant)},
                          {"k1", 40.0},
                          {"k2", 100.0},
                          {"percentile_min", 10.0},
                          {"percentile_max", 90.0}},
                         data);
  for (const char* preset : {"vra+", "imagenet-resnet50", "openood", "pytorch_ood"})
    check_like_processor("vra", {{"preset", std::string(preset)}}, data);
  check_like_processor("react", {{"preset", std::string("pytorch_ood")}}, data);
  check_like_processor("dice", {{"percentile", 50.0}}, data);
}

TEST_CASE("device shaping: a negative entry is an error that says where, or 0") {
  const auto emulated = test::device_to_test();
  auto data = with_ties();
  data.features(30, 2) = NAN;  // such a row is none of them
  data.features(30, 3) = -1;
  data.features(40, 2) = -0.0f;
  data.features(200, 1) = -0.25f;
  data.features(200, 9) = -0.5f;
  data.features(201, 1) = -2;
  for (const char* name : {"ash", "scale", "lts"}) {
    CAPTURE(name);
    auto fit_on = data;
    fit_on.features = fit_on.features.unaryExpr([](float x) { return x > 0 ? x : 0.0f; });
    const auto detector = fitted(name, {}, fit_on);
    std::string errors[2];
    const Exec on[] = {Exec{.threads = 1}, kDevice};
    for (const int i : {0, 1}) {
      try {
        detector->score(data.batch(), on[i]);
      } catch (const std::domain_error& error) {
        errors[i] = error.what();
      }
    }
    CHECK(errors[1] == std::string(name) +
                           ".score: features has -0.5 at row 200, column 9, expected 0 or more, as "
                           "after a ReLU; relu = true takes negative entries for 0");
    CHECK(errors[0] == errors[1]);
    // the device is as well as before
    CHECK(detector->score(data.batch().slice(0, 200), kDevice).size() == 200);
    const auto rectified = fitted(name, {{"relu", true}}, fit_on);
    const auto scores = rectified->score(data.batch(), kDevice);
    const auto expected = rectified->score(data.batch());
    for (std::size_t i = 0; i < scores.size(); ++i)
      if (i == 30)
        CHECK(std::isnan(scores[i]));
      else
        CHECK(scores[i] == doctest::Approx(expected[i]).epsilon(2e-5));
  }
}

TEST_CASE("device shaping: a copy that is not there") {
  const auto emulated = test::device_to_test();
  const auto data = with_ties();
  auto less = data;
  less.copy_features = xt::view(data.copy_features, xt::range(0, 1), xt::all(), xt::all());
  const auto detector = fitted("adascale", {{"copy", Index{1}}}, data);
  CHECK_THROWS_WITH_AS(detector->score(less.batch(), kDevice),
                       "adascale.score: copy has 1, expected below the number of copies, 1",
                       std::domain_error);
}
