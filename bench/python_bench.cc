/// What the Python package costs over C++: the same score, taking turns with a Python that has the
/// package. OOD_BENCH_PACKAGE_PYTHON names that Python.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>

#include "coprocess.h"
#include "interleaved.h"
#include "ood/detectors/energy.h"
#include "random_rows.h"

namespace ood::bench {

namespace {

void energy_from_python(benchmark::State& state) {
  const char* python = std::getenv("OOD_BENCH_PACKAGE_PYTHON");
  if (python == nullptr)
    return state.SkipWithError("OOD_BENCH_PACKAGE_PYTHON names no Python that has the package");
  const Index rows = state.range(0), classes = state.range(1);
  const Matrix logits = normal_rows(rows, classes);
  Batch batch;
  batch.logits = logits;
  const Energy energy;
  std::vector<float> scores(static_cast<std::size_t>(rows)), theirs(scores);

  Coprocess process(python, OOD_BENCH_PYTHON_SCRIPT);
  const bool sent = process.send(fmt::format("{} {}\n", rows, classes)) && process.send(logits);
  const std::string made_of = process.read_line();
  if (!sent || made_of.empty() || !process.read(theirs))
    return state.SkipWithError("the Python of OOD_BENCH_PACKAGE_PYTHON does not have the package");
  energy.score(batch, scores, {.threads = 1});
  if (scores != theirs) return state.SkipWithError("the scores differ");

  std::vector<double> cpp, package, ratios;
  for (auto _ : state) {
    cpp.push_back(seconds([&] { energy.score(batch, scores, {.threads = 1}); }));
    process.send(std::string("\n"));
    package.push_back(std::strtod(process.read_line().c_str(), nullptr));
    ratios.push_back(package.back() / cpp.back());
    state.SetIterationTime(package.back());
  }
  state.counters["cpp_ms"] = 1e3 * median(cpp);
  state.counters["python_ms"] = 1e3 * median(package);
  state.counters["python_over_cpp"] = median(ratios);
  state.SetLabel(made_of);
}

BENCHMARK(energy_from_python)
    ->Args({50000, 1000})
    ->Args({100, 1000})
    ->UseManualTime()
    ->Iterations(201)
    ->Unit(benchmark::kMillisecond);

}  // namespace

}  // namespace ood::bench
