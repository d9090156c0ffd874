// One fitted detector serves several threads of a program at a time.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "ood/model_file.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Index kDim = 21, kClasses = 5, kRows = 150;
constexpr Index kBatchRows[] = {1, 7, 64, 150};  // of each thread
constexpr int kRounds = 3;

const test::Everything& queries() {
  static const auto data = test::make_everything(kRows, kDim, kClasses, 8);
  return data;
}

std::unique_ptr<Detector> fitted(const std::string& name) {
  static const auto train = test::make_everything(600, kDim, kClasses, 7);
  static const auto outliers = test::make_everything(100, kDim, kClasses, 11, 0.01, 1.3f, 1.0);
  auto detector =
      make_detector(name, name == "corp" ? OptionMap{{"dimension", Index{128}}} : OptionMap());
  MemorySource source(train.batch(), &train.head), other(outliers.batch(), &train.head);
  detector->fit({.train = &source, .ood_val = {{"noise", &other}}});
  return detector;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Scores of all rows, in batches of so many.
std::vector<float> scores_of(const Detector& detector, Index batch_rows, const Exec& exec) {
  const Batch all = queries().batch();
  std::vector<float> scores(static_cast<std::size_t>(kRows));
  for (Index begin = 0; begin < kRows; begin += batch_rows) {
    const Index count = std::min(batch_rows, kRows - begin);
    detector.score(
        all.slice(begin, count),
        std::span(scores).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)),
        exec);
  }
  return scores;
}

}  // namespace

TEST_CASE("shared detector: threads that score at a time get the bits of one alone") {
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector = fitted(name);
    const auto expected = scores_of(*detector, kRows, {.threads = 1});
    CHECK(std::ranges::none_of(expected, [](float s) { return std::isnan(s); }));
    for (const int threads : {1, 2}) {
      CAPTURE(threads);
      std::atomic<int> ready = 0, different = 0;
      std::vector<std::thread> users;
      for (const Index batch_rows : kBatchRows)
        users.emplace_back([&, batch_rows] {
          for (++ready; ready < std::ssize(kBatchRows);) std::this_thread::yield();
          for (int round = 0; round < kRounds; ++round)
            if (!same_bits(scores_of(*detector, batch_rows, {.threads = threads}), expected))
              ++different;
        });
      for (std::thread& user : users) user.join();
      CHECK(different == 0);
    }
  }
}

TEST_CASE("shared detector: a loaded model decides alike in every thread") {
  const Batch all = queries().batch();
  const Model model = [&] {
    Model made{.detector = fitted("mahalanobis")};
    const auto scores = made.detector->score(all);
    const std::vector<double> calibration(scores.begin(), scores.begin() + 100);
    std::vector<Index> predicted;
    for (Index i = 0; i < 100; ++i) predicted.push_back(i % kClasses);
    made.calibration = Calibration(calibration, predicted, kClasses);
    const auto path = std::filesystem::temp_directory_path() /
                      ("ood_shared_" + std::to_string(std::random_device()()) + ".ood");
    save_model(made, path);
    Model loaded = load_model(path);
    std::filesystem::remove(path);
    return loaded;
  }();
  const auto p_values_of = [&](Index batch_rows) {
    std::vector<double> p_values(static_cast<std::size_t>(kRows));
    const auto scores = scores_of(*model.detector, batch_rows, {.threads = 1});
    model.calibration.p_values(all, scores, p_values);
    return p_values;
  };
  const auto expected = p_values_of(kRows);
  std::atomic<int> different = 0;
  std::vector<std::thread> users;
  for (const Index batch_rows : kBatchRows)
    users.emplace_back([&, batch_rows] {
      for (int round = 0; round < kRounds; ++round)
        if (p_values_of(batch_rows) != expected) ++different;
    });
  for (std::thread& user : users) user.join();
  CHECK(different == 0);
}
