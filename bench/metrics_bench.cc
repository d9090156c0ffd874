#include <benchmark/benchmark.h>

#include <functional>

#include "interleaved.h"
#include "naive.h"
#include "ood/intervals.h"
#include "ood/metrics.h"
#include "ood/report_builder.h"
#include "ood/score_bins.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Index kScores = 10000;  // of each kind
constexpr Index kResamples = 1000;

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

// A million scores of each kind. std_sorts: how many times as long std::sort takes for the two sorts
// alone, by which every other way begins.
void all_metrics_of_millions(benchmark::State& state) {
  constexpr Index kMillion = 1000000;
  const VectorD id = normal_rows(kMillion, 1, 1).cast<double>();
  const VectorD ood = normal_rows(kMillion, 1, 2).cast<double>().array() - 2;
  const std::span<const double> ids(id.data(), static_cast<std::size_t>(kMillion));
  const std::span<const double> oods(ood.data(), static_cast<std::size_t>(kMillion));
  std::vector<double> ratios;
  for (auto _ : state) {
    const double ours = seconds([&] { benchmark::DoNotOptimize(compute_metrics(ids, oods)); });
    const double sorts = seconds([&] {
      for (const auto scores : {ids, oods}) {
        std::vector<double> sorted(scores.begin(), scores.end());
        std::ranges::sort(sorted, std::greater<>());
        benchmark::DoNotOptimize(sorted.data());
      }
    });
    state.SetIterationTime(ours);
    ratios.push_back(sorts / ours);
  }
  state.SetItemsProcessed(state.iterations() * 2 * kMillion);
  state.counters["std_sorts"] = median(ratios);
}
BENCHMARK(all_metrics_of_millions)->Unit(benchmark::kMillisecond)->UseManualTime();

// DeLong's interval, to compare with all_metrics.
void delong(benchmark::State& state) {
  measure(state, [](Scores id, Scores ood) { return auroc_interval(id, ood); });
}
void delong_paired(benchmark::State& state) {
  measure(state, [](Scores id, Scores ood) { return compare_auroc(id, ood, id, ood); });
}
BENCHMARK(delong)->Unit(benchmark::kMicrosecond);
BENCHMARK(delong_paired)->Unit(benchmark::kMicrosecond);

// What a report has of one set of a million scores and as many ID scores. apart: how many times as long metrics,
// interval and mean take where each ranks the scores for itself.
void report_row_of_millions(benchmark::State& state) {
  constexpr Index kMillion = 1000000;
  const VectorD id = normal_rows(kMillion, 1, 1).cast<double>();
  const VectorD ood = normal_rows(kMillion, 1, 2).cast<double>().array() - 2;
  const std::vector<double> ids(id.begin(), id.end()), oods(ood.begin(), ood.end());
  std::vector<double> ratios;
  for (auto _ : state) {
    DetectorResults results({}, {});
    results.set_id(ids);
    auto given = oods;
    const double ours = seconds([&] { results.add_set("set", "far", std::move(given)); });
    const double apart = seconds([&] {
      benchmark::DoNotOptimize(compute_metrics(ids, oods));
      benchmark::DoNotOptimize(auroc_interval(ids, oods));
      MeanAuroc mean;
      mean.add(ids, oods);
      benchmark::DoNotOptimize(mean);
    });
    state.SetIterationTime(ours);
    ratios.push_back(apart / ours);
  }
  state.counters["apart"] = median(ratios);
}
BENCHMARK(report_row_of_millions)->Unit(benchmark::kMillisecond)->UseManualTime();

void bootstrap(benchmark::State& state) {
  measure(state, [](Scores id, Scores ood) {
    return bootstrap_intervals(id, ood, {.resamples = kResamples, .exec = {.threads = 1}});
  });
}
void bootstrap_naive(benchmark::State& state) {
  measure(state, [](Scores id, Scores ood) {
    return naive::bootstrap(id, ood, kResamples, compute_metrics);
  });
}
BENCHMARK(bootstrap)->Unit(benchmark::kMillisecond);
BENCHMARK(bootstrap_naive)->Unit(benchmark::kMillisecond);

// A million scores counted in the bins of as many edges. naive: how many times as long a bisection of the
// edges for each score takes; sort: a sort of the scores by std::sort alone.
void count_in_bins(benchmark::State& state) {
  constexpr Index kMillion = 1000000;
  const Matrix rows = normal_rows(kMillion, 1, 1);
  const std::span<const float> scores(rows.data(), static_cast<std::size_t>(kMillion));
  const auto edges = bin_edges(scores, state.range(0));
  std::vector<double> naive_ratios, sort_ratios;
  for (auto _ : state) {
    const double ours = seconds([&] { benchmark::DoNotOptimize(bin_counts(scores, edges)); });
    const double bisected = seconds([&] {
      std::vector<std::int64_t> counts(2 * edges.size() + 1, 0);
      for (const float score : scores) {
        const auto [first, last] = std::equal_range(edges.begin(), edges.end(), score);
        ++counts[static_cast<std::size_t>((first - edges.begin()) + (last - edges.begin()))];
      }
      benchmark::DoNotOptimize(counts.data());
    });
    const double sorted = seconds([&] {
      std::vector<float> copy(scores.begin(), scores.end());
      std::ranges::sort(copy);
      benchmark::DoNotOptimize(copy.data());
    });
    state.SetIterationTime(ours);
    naive_ratios.push_back(bisected / ours);
    sort_ratios.push_back(sorted / ours);
  }
  state.SetItemsProcessed(state.iterations() * kMillion);
  state.counters["naive"] = median(naive_ratios);
  state.counters["sort"] = median(sort_ratios);
}
BENCHMARK(count_in_bins)
    ->Arg(256)
    ->Arg(4096)
    ->Arg(65536)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

void metrics_of_bins(benchmark::State& state) {
  constexpr Index kMillion = 1000000;
  const Matrix rows = normal_rows(2 * kMillion, 1, 1);
  const std::span<const float> scores(rows.data(), static_cast<std::size_t>(2 * kMillion));
  const auto edges = bin_edges(scores, state.range(0));
  const auto id = bin_counts(scores.first(kMillion), edges),
             ood = bin_counts(scores.last(kMillion), edges);
  for (auto _ : state) benchmark::DoNotOptimize(binned_metrics(id, ood));
}
BENCHMARK(metrics_of_bins)->Arg(4096)->Arg(65536)->Unit(benchmark::kMillisecond);

}  // namespace
