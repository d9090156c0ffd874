#include <benchmark/benchmark.h>

#include "naive.h"
#include "ood/metrics.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Index kScores = 10000;  // of each kind

template <class Metric>
void measure(benchmark::State& state, const Metric& metric) {
  const VectorD id = normal_rows(kScores, 1, 1).cast<double>();
  const VectorD ood = normal_rows(kScores, 1, 2).cast<double>().array() - 2;
  const std::span<const double> ids(id.data(), static_cast<std::size_t>(kScores));
  const std::span<const double> oods(ood.data(), static_cast<std::size_t>(kScores));
  for (auto _ : state) benchmark::DoNotOptimize(metric(ids, oods));
  state.SetItemsProcessed(state.iterations() * 2 * kScores);
}

void auroc(benchmark::State& state) { measure(state, ood::auroc); }
void auroc_naive(benchmark::State& state) { measure(state, naive::auroc); }
void all_metrics(benchmark::State& state) { measure(state, compute_metrics); }
BENCHMARK(auroc)->Unit(benchmark::kMicrosecond);
BENCHMARK(auroc_naive)->Unit(benchmark::kMicrosecond);
BENCHMARK(all_metrics)->Unit(benchmark::kMicrosecond);

}  // namespace
