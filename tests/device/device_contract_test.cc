// What every detector must keep on a device, checked without naming any; where there is no GPU, on an emulated
// one.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>

#include "device/emulated_queue.h"
#include "ood/detectors.h"
#include "ood/devices.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Index kDim = 21, kClasses = 5;
constexpr Exec kDevice = {.threads = 1, .device = {Device::Kind::cuda, 0}};

const test::Everything& train() {
  static const auto data = test::make_everything(3'001, kDim, kClasses, 7);
  return data;
}
const test::Everything& queries() {
  static const auto data = test::make_everything(301, kDim, kClasses, 8);
  return data;
}
const test::Everything& outliers() {
  static const auto data = test::make_everything(200, kDim, kClasses, 11, 0.01, 1.3f, 1.0);
  return data;
}

std::unique_ptr<Detector> fitted(const std::string& name) {
  auto detector = make_detector(name);
  if (name == "corp") detector->set_options({{"dimension", Index{128}}});
  MemorySource source(train().batch(), &train().head);
  MemorySource other(outliers().batch(), &train().head);
  detector->fit({.train = &source, .ood_val = {{"noise", &other}}});
  return detector;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// What a call throws says, or "".
template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

/// Differences are seen relative to it.
double spread_of(const std::vector<float>& want) {
  double low = INFINITY, high = -INFINITY;
  for (const float w : want)
    if (std::isfinite(w)) {
      low = std::min(low, static_cast<double>(w));
      high = std::max(high, static_cast<double>(w));
    }
  return std::max({high - low, std::abs(high) * 1e-3, 1e-30});
}

/// The largest difference, relative to the spread; NaN must stand where it does.
double worst_difference(const std::vector<float>& got, const std::vector<float>& want,
                        double spread) {
  double worst = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(got[i]) != std::isnan(want[i])) return INFINITY;
    if (std::isnan(want[i]) || got[i] == want[i]) continue;
    worst = std::max(worst,
                     std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i])) / spread);
  }
  return worst;
}
double worst_difference(const std::vector<float>& got, const std::vector<float>& want) {
  return worst_difference(got, want, spread_of(want));
}

/// Those that have code for devices.
std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& name : detector_names())
    if (make_detector(name)->runs_on_devices()) all.push_back(name);
  return all;
}

}  // namespace

TEST_CASE("device contract: scores are those of the processor, from run to run the same bits") {
  const auto emulated = test::device_to_test();
  for (const auto& name : names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto expected = detector->score(queries().batch());
    const auto scores = detector->score(queries().batch(), kDevice);
    CHECK(worst_difference(scores, expected) < 2e-5);
    CHECK(same_bits(detector->score(queries().batch(), kDevice), scores));
    CHECK(detector->score(queries().batch().slice(0, 0), kDevice).empty());
  }
}

TEST_CASE("device contract: a row with NaN or infinity scores NaN, and no other") {
  const auto emulated = test::device_to_test();
  test::Everything bad = queries();
  bad.spoil(3, NAN);
  bad.spoil(150, INFINITY);
  bad.spoil(300, -INFINITY);
  for (const auto& name : names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto scores = detector->score(bad.batch(), kDevice);
    CHECK(worst_difference(scores, detector->score(bad.batch())) < 2e-5);
    for (const std::size_t i : {3u, 150u, 300u}) CHECK(std::isnan(scores[i]));
    CHECK(std::ranges::count_if(scores, [](float s) { return std::isnan(s); }) == 3);
  }
}

TEST_CASE("device contract: a copy, a second fit and other options have state of their own") {
  const auto emulated = test::device_to_test();
  for (const auto& name : names()) {
    CAPTURE(name);
    auto detector = fitted(name);
    const auto before = detector->score(queries().batch(), kDevice);
    const auto copy = detector->clone();
    MemorySource source(queries().batch(), &train().head);
    MemorySource other(outliers().batch(), &train().head);
    detector->fit({.train = &source, .ood_val = {{"noise", &other}}});
    CHECK(worst_difference(detector->score(queries().batch(), kDevice),
                           detector->score(queries().batch())) < 2e-5);
    if (copy->fitted()) CHECK(same_bits(copy->score(queries().batch(), kDevice), before));
  }
}

TEST_CASE("device contract: rows with room between them, one row, and threads") {
  const auto emulated = test::device_to_test();
  Matrix wide = Matrix::Constant(queries().features.rows(), kDim + 9, NAN);
  wide.leftCols(kDim) = queries().features;
  Batch strided = queries().batch();
  strided.features = MatrixView(wide.data(), wide.rows(), kDim, wide.cols());
  for (const auto& name : names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto expected = detector->score(queries().batch(), kDevice);
    CHECK(same_bits(detector->score(strided, kDevice), expected));
    const auto one = detector->score(queries().batch().slice(7, 1), kDevice);
    CHECK(worst_difference(one, {expected[7]}, spread_of(expected)) < 2e-5);
    std::vector<float> own[2];
    std::thread other([&] { own[0] = detector->score(queries().batch(), kDevice); });
    own[1] = detector->score(queries().batch(), kDevice);
    other.join();
    CHECK(same_bits(own[0], expected));
    CHECK(same_bits(own[1], expected));
  }
}

TEST_CASE("device contract: a detector without code for devices says so") {
  const auto emulated = test::device_to_test();
  for (const auto& name : detector_names()) {
    if (make_detector(name)->runs_on_devices()) continue;
    CAPTURE(name);
    const auto detector = fitted(name);
    CHECK(message_of([&] { detector->score(queries().batch(), kDevice); }) ==
          name + ".score: device has cuda:0, expected cpu: this detector has no code for GPUs");
  }
}
