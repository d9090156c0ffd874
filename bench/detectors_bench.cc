// fit and score of every detector of the list, on one thread. bytes = the arrays that are read, once.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <map>
#include <memory>

#include "ood/detectors.h"
#include "problem.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Exec kOneThread{1};

/// The detector fitted on the problem of a shape: fitting is far slower than scoring.
template <class Detector>
std::unique_ptr<Detector>& fitted(Index dim, Index classes) {
  static std::map<std::pair<Index, Index>, std::unique_ptr<Detector>> detectors;
  return detectors[{dim, classes}];
}

/// Bytes of a row of these arrays.
Index row_bytes(const Inputs& inputs, Index dim, Index classes) {
  Index floats = 0;
  if (inputs.features) floats += dim;
  if (inputs.logits) floats += classes;
  if (inputs.layers) floats += dim + dim / 2;
  if (inputs.copy_features) floats += Problem::kCopies * dim;
  if (inputs.copy_logits) floats += Problem::kCopies * classes;
  return floats * Index{sizeof(float)};
}

void count(benchmark::State& state, Index rows, Index bytes) {
  state.SetItemsProcessed(state.iterations() * rows);
  state.SetBytesProcessed(state.iterations() * rows * bytes);
}

template <class Detector>
void fit(benchmark::State& state, Index dim, Index classes) try {
  Problem& problem = Problem::of_shape(dim, classes);
  auto& detector = fitted<Detector>(dim, classes);
  for (auto _ : state) {
    detector = std::make_unique<Detector>();
    detector->fit(problem.fit_data(), kOneThread);
  }
  count(state, problem.source().info().rows, row_bytes(Detector().needs().fit, dim, classes));
} catch (const std::exception& error) {
  state.SkipWithError(error.what());
}

template <class Detector>
void score(benchmark::State& state, Index dim, Index classes) try {
  Problem& problem = Problem::of_shape(dim, classes);
  auto& detector = fitted<Detector>(dim, classes);
  if (!detector) {
    auto made = std::make_unique<Detector>();
    if (made->needs().fit.any() || made->needs().outliers.any())
      made->fit(problem.fit_data(), kOneThread);
    detector = std::move(made);
  }
  const Batch& rows = problem.scored();
  std::vector<float> out(static_cast<std::size_t>(rows.rows()));
  for (auto _ : state) {
    detector->score(rows, out, kOneThread);
    benchmark::ClobberMemory();
  }
  count(state, rows.rows(), row_bytes(Detector().needs().score, dim, classes));
} catch (const std::exception& error) {
  state.SkipWithError(error.what());
}

void add_detectors(Index dim, Index classes) {
  for_each_type(Detectors(), [&]<class Detector>() {
    const auto add = [&](std::string_view what, auto* function) {
      const auto name = fmt::format("{}_{}/{}/{}", Detector::kName, what, dim, classes);
      benchmark::RegisterBenchmark(name.c_str(), function, dim, classes)
          ->Unit(benchmark::kMillisecond);
    };
    if (Detector().needs().fit.any()) add("fit", fit<Detector>);
    add("score", score<Detector>);
  });
}

[[maybe_unused]] const bool added = [] {
  add_detectors(342, 10);
  add_detectors(342, 100);
  add_detectors(2048, 1000);
  return true;
}();

}  // namespace
