// A search over 21 values of ConjNorm's p beside one fit-and-score of one value, on one thread, rows in
// memory: the two take turns, times are processor times, and the medians make the ratio.
#include "ood/search.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <map>
#include <memory>

#include "interleaved.h"
#include "ood/detectors/conjnorm.h"
#include "ood/metrics.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

/// Of training, in-distribution and outlier rows: as in a CIFAR file and, of D = 2048, as 50 rows of
/// each ImageNet class.
struct Sizes {
  Index train, id, ood;
};
Sizes sizes_of(Index dim) {
  return dim == 2048 ? Sizes{50000, 50000, 40000} : Sizes{20000, 10000, 17500};
}
constexpr Exec kOneThread{1};

struct Data {
  Data(Index dim, Index classes) {
    const Matrix means = normal_rows(classes, dim, 1, 1);
    const Sizes rows = sizes_of(dim);
    train = class_rows(means, rows.train, 2);
    id = class_rows(means, rows.id, 3);
    ood = class_rows(normal_rows(classes, dim, 4, 1), rows.ood, 5);
    for (Index i = 0; i < rows.train; ++i) labels.push_back(i % classes);
    Batch arrays;
    arrays.features = train;
    arrays.labels = labels;
    train_source = std::make_unique<MemorySource>(arrays);
    Batch outliers;
    outliers.features = ood;
    ood_source = std::make_unique<MemorySource>(outliers);
  }

  double fit_and_score(Criterion criterion) {
    ConjNorm detector({.partition = criterion == Criterion::id_likelihood
                                        ? ConjNorm::Partition::importance
                                        : ConjNorm::Partition::pooled});
    detector.fit(*train_source, kOneThread);
    const auto scores = [&](const Matrix& rows) {
      Batch batch;
      batch.features = rows;
      const auto floats = detector.score(batch, kOneThread);
      return std::vector<double>(floats.begin(), floats.end());
    };
    return auroc(scores(id), scores(ood));
  }

  SearchResult search_p(Criterion criterion) {
    SearchSpec spec{.criterion = criterion};
    spec.grid = {{"p", {}}};
    for (int i = 0; i <= 20; ++i) spec.grid[0].values.emplace_back(1.05 + 0.1 * i);
    SearchData data{.train = *train_source};
    data.ood_val.emplace_back("ood", ood_source.get());
    return search(ConjNorm(), spec, data, kOneThread);
  }

  Matrix train, id, ood;
  std::vector<std::int64_t> labels;
  std::unique_ptr<MemorySource> train_source, ood_source;
};

/// The time is that of the search.
void search_vs_fit_and_score(benchmark::State& state) {
  static std::map<std::pair<Index, Index>, std::unique_ptr<Data>> made;
  auto& data = made[{state.range(0), state.range(1)}];
  if (!data) data = std::make_unique<Data>(state.range(0), state.range(1));
  const auto criterion = static_cast<Criterion>(state.range(2));
  std::vector<double> single, whole;
  for (auto _ : state) {
    single.push_back(seconds([&] { data->fit_and_score(criterion); }));
    whole.push_back(seconds([&] { data->search_p(criterion); }));
    state.SetIterationTime(whole.back());
  }
  state.SetLabel(std::string(kCriteria[static_cast<std::size_t>(criterion)]));
  state.counters["fit_and_score_ms"] = 1e3 * median(single);
  state.counters["search_ms"] = 1e3 * median(whole);
  state.counters["search_over_fit_and_score"] = median(whole) / median(single);
}

/// D, C, criterion
void shapes(benchmark::internal::Benchmark* benchmark) {
  for (const auto criterion :
       {Criterion::ood_val_auroc, Criterion::id_likelihood, Criterion::pseudo_ood})
    for (const auto& shape : {std::pair{342, 10}, {342, 100}, {2048, 1000}})
      benchmark->Args({shape.first, shape.second, static_cast<Index>(criterion)});
  benchmark->Unit(benchmark::kMillisecond)->UseManualTime()->Iterations(5);
}

BENCHMARK(search_vs_fit_and_score)->Apply(shapes);

}  // namespace
