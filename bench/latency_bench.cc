// How long one row waits for its score, on one thread: percentiles beside the mean.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <vector>

#include "ood/batch.h"
#include "ood/detectors.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Index kDim = 2048, kClasses = 1000, kFitRows = 4000, kScoreRows = 512;

/// Rows around class means; logits that have nothing to do with them.
struct Rows {
  Matrix features, logits;
  std::vector<std::int64_t> labels;

  static const Rows& get() {
    static const Rows rows = [] {
      Rows made;
      const Matrix means = normal_rows(kClasses, kDim, 1, 1);
      made.features = normal_rows(kFitRows, kDim, 2, 1);
      made.logits = normal_rows(kFitRows, kClasses, 3, 3);
      for (Index i = 0; i < kFitRows; ++i) {
        made.labels.push_back(i % kClasses);
        made.features.row(i) += means.row(i % kClasses);
      }
      return made;
    }();
    return rows;
  }
  Batch arrays() const {
    Batch all;
    all.features = features;
    all.logits = logits;
    all.labels = labels;
    return all;
  }
};

/// Time of each row, and percentiles of all of them in microseconds as counters.
template <class Detector>
void one_row(benchmark::State& state, const typename Detector::Options& options) {
  const Batch all = Rows::get().arrays();
  static std::unique_ptr<Detector> detector;  // fitting is far slower than scoring
  if (!detector) {
    detector = std::make_unique<Detector>(options);
    MemorySource source(all);
    detector->fit(source);
  }
  std::vector<Batch> rows;
  for (Index i = 0; i < kScoreRows; ++i) rows.push_back(all.slice(i, 1));
  float score = 0;
  std::vector<double> microseconds;
  microseconds.reserve(1 << 20);
  std::size_t next = 0;
  for (auto _ : state) {
    const auto before = std::chrono::steady_clock::now();
    detector->score(rows[next++ % rows.size()], {&score, 1}, {.threads = 1});
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
    benchmark::DoNotOptimize(score);
    state.SetIterationTime(took.count());
    if (microseconds.size() < microseconds.capacity()) microseconds.push_back(took.count() * 1e6);
  }
  std::ranges::sort(microseconds);
  const auto at = [&](double share) {
    const auto rank = std::ceil(share * static_cast<double>(microseconds.size()));
    return microseconds[static_cast<std::size_t>(rank) - 1];
  };
  state.counters["p50_us"] = at(0.5);
  state.counters["p90_us"] = at(0.9);
  state.counters["p99_us"] = at(0.99);
  state.counters["p99.9_us"] = at(0.999);
  state.counters["max_us"] = microseconds.back();
}

void one_row_energy(benchmark::State& state) { one_row<Energy>(state, {}); }
void one_row_conjnorm(benchmark::State& state) { one_row<ConjNorm>(state, {}); }
void one_row_mahalanobis(benchmark::State& state) { one_row<Mahalanobis>(state, {}); }

BENCHMARK(one_row_energy)->UseManualTime();
BENCHMARK(one_row_conjnorm)->UseManualTime();
BENCHMARK(one_row_mahalanobis)->UseManualTime();

}  // namespace
