// The 50 nearest of 50,000 rows on one thread: by each filter, beside the bare float32 product with all
// rows and beside that product with a selection among all keys, as one would write it. They take turns,
// times are processor times, and the medians make the ratios.
#include <benchmark/benchmark.h>

#include "interleaved.h"
#include "naive.h"
#include "ood/detectors/relation.h"
#include "ood/kernels.h"
#include "ood/neighbour_search.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

using Filter = NeighbourSearch::Filter;
using Likeness = NeighbourSearch::Likeness;

constexpr Index kBank = 50000, kQueries = 2 * kernels::kTileRows, kNearest = 50, kBlock = 1000;

enum Kind : int { clusters, unstructured };

struct Problem {
  Problem(Index dim, Kind kind, Likeness likeness) {
    const Matrix means = normal_rows(1000, dim, 1, 1);
    const auto rows = [&](Index count, std::uint32_t seed) {
      Matrix unit;
      kernels::normalize_rows(
          kind == clusters ? class_rows(means, count, seed) : normal_rows(count, dim, seed), unit);
      return unit;
    };
    bank = rows(kBank, 2);
    queries = rows(kQueries, 3);
    float32 = NeighbourSearch(bank, likeness, Filter::float32);
    fastest = NeighbourSearch(bank, likeness);
    for (Index first = 0; first < kBank; first += kBlock)
      blocks.emplace_back(MatrixView(bank).middle_rows(first, std::min(kBlock, kBank - first)));
    found.resize(static_cast<std::size_t>(kQueries * kNearest));
    half_norms.assign(static_cast<std::size_t>(kBank), 0.5f);
  }

  /// Rows that were compared one by one, for a query.
  double search(const NeighbourSearch& by) {
    Index compared = 0;
    by.find(queries, bank, kNearest, found, &compared);
    return static_cast<double>(compared) / static_cast<double>(kQueries);
  }

  template <class Epilogue>
  void multiply(const Epilogue& epilogue) {
    for (Index first = 0; first < kQueries; first += kernels::kTileRows) {
      for (const auto& block : blocks) {
        kernels::matmul_nt(MatrixView(queries).middle_rows(first, kernels::kTileRows), block, dots);
        epilogue();
      }
    }
  }
  void by_selection() {
    Matrix all(kQueries, kBank);
    Index row = 0, column = 0;
    multiply([&] {
      all.block(row, column, dots.rows(), dots.cols()) = dots;
      column += dots.cols();
      if (column == kBank) row += dots.rows(), column = 0;
    });
    for (Index i = 0; i < kQueries; ++i)
      benchmark::DoNotOptimize(
          naive::kth_nearest(naive::row_of(all, i), half_norms, std::size_t{kNearest}));
  }

  Matrix bank, queries, dots;
  NeighbourSearch float32, fastest;
  std::vector<kernels::PackedMatrix> blocks;
  std::vector<NeighbourSearch::Neighbour> found;
  std::vector<float> half_norms;
};

/// The time is that of the fastest filter, for all queries. vs_*: how many times longer
/// something else takes.
void neighbours(benchmark::State& state) {
  Problem problem(state.range(0), static_cast<Kind>(state.range(1)),
                  static_cast<Likeness>(state.range(2)));
  double candidates = 0, candidates_float32 = 0;
  std::vector<double> by_float32, by_product, by_selection;
  for (auto _ : state) {
    const double fastest = seconds([&] { candidates = problem.search(problem.fastest); });
    state.SetIterationTime(fastest);
    const double float32 = seconds([&] { candidates_float32 = problem.search(problem.float32); });
    const double product = seconds([&] { problem.multiply([] {}); });
    by_float32.push_back(float32 / fastest);
    by_product.push_back(product / fastest);
    by_selection.push_back(seconds([&] { problem.by_selection(); }) / fastest);
  }
  state.SetLabel(problem.fastest.filter() == Filter::bfloat16 ? "bfloat16" : "float32");
  state.counters["candidates"] = candidates;
  state.counters["candidates_float32"] = candidates_float32;
  state.counters["vs_float32_filter"] = median(by_float32);
  state.counters["vs_float32_product"] = median(by_product);
  state.counters["vs_selection"] = median(by_selection);
}

BENCHMARK(neighbours)
    ->ArgNames({"dim", "unstructured", "product"})
    ->ArgsProduct({{342, 512, 2048}, {clusters, unstructured}, {0, 1}})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

/// Relation's score, beside the two bare products of all rows with the bank that define it. Features and
/// softmaxes of one class have much in common, and little with other classes.
void relation(benchmark::State& state) {
  const Index dim = state.range(0), classes = state.range(1);
  const Matrix means = normal_rows(classes, dim, 1, 1);
  const auto logits_of = [&](const Matrix& rows) {
    Matrix logits = Matrix::Zero(rows.rows(), classes);
    for (Index i = 0; i < rows.rows(); ++i) logits(i, i % classes) = 10;
    return logits;
  };
  const Matrix bank = class_rows(means, kBank, 2), rows = class_rows(means, kQueries, 3),
               bank_logits = logits_of(bank), logits = logits_of(rows);
  Batch train, queries;
  train.features = bank;
  train.logits = bank_logits;
  queries.features = rows;
  queries.logits = logits;
  MemorySource source(train);
  Relation detector;
  detector.fit(source, {.threads = 1});
  std::vector<std::pair<kernels::PackedMatrix, kernels::PackedMatrix>> blocks;
  for (Index first = 0; first < kBank; first += kBlock)
    blocks.emplace_back(MatrixView(bank).middle_rows(first, kBlock),
                        MatrixView(bank_logits).middle_rows(first, kBlock));
  std::vector<float> scores(static_cast<std::size_t>(kQueries));
  Matrix dots;
  std::vector<double> by_products;
  for (auto _ : state) {
    const double score = seconds([&] { detector.score(queries, scores, {.threads = 1}); });
    state.SetIterationTime(score);
    const double products = seconds([&] {
      for (Index first = 0; first < kQueries; first += kernels::kTileRows)
        for (const auto& block : blocks) {
          kernels::matmul_nt(MatrixView(rows).middle_rows(first, kernels::kTileRows), block.first,
                             dots);
          kernels::matmul_nt(MatrixView(logits).middle_rows(first, kernels::kTileRows),
                             block.second, dots);
        }
    });
    by_products.push_back(products / score);
  }
  state.counters["vs_products"] = median(by_products);
}

BENCHMARK(relation)
    ->ArgNames({"dim", "classes"})
    ->ArgsProduct({{512}, {10, 100}})
    ->Args({2048, 1000})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
