// Detectors against what they cannot do without (reading their rows, their products), on all threads,
// in turns. The counter `goal` says how many times that a detector may take (of speedup: how much it
// should be at least); where there is none, none was set. scripts/bench-compare writes both down.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "interleaved.h"
#include "machine_limits.h"
#include "ood/accumulators/class_moments.h"
#include "ood/detectors.h"
#include "ood/kernels.h"
#include "ood/reduce.h"
#include "ood/residual_space.h"
#include "ood/serialize.h"
#include "problem.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Index kRows = 50000, kDim = 2048, kClasses = 1000;
constexpr Exec kAllThreads{};

/// Rows of ImageNet's shape, made when they are first asked for.
struct ImageNet {
  Problem& problem = Problem::of_shape(kDim, kClasses);
  Matrix logits = normal_rows(kRows, kClasses);
  Matrix features = class_rows(normal_rows(kClasses, kDim, 1, 1), kRows, 8);

  static ImageNet& get() {
    static ImageNet rows;
    return rows;
  }
  Batch batch() const {
    Batch rows;
    rows.logits = logits;
    rows.features = features;
    return rows;
  }
};

/// The rows by each of the matrices in turn, in the tiles that scores are cut into.
class Products {
 public:
  Products(const Matrix& x, const std::vector<std::pair<Index, Index>>& shapes) : x_(x) {
    for (const auto& [rows, depth] : shapes)
      factors_.emplace_back(normal_rows(rows, depth, 1, 0.1f));
  }
  void operator()() const {
    const MatrixView x = x_;
    const Index tiles = (x.rows() + kernels::kTileRows - 1) / kernels::kTileRows;
    parallel_for(tiles, kAllThreads, [&](Index tile) {
      thread_local std::vector<Matrix> results;
      results.resize(factors_.size());
      const Index first = tile * kernels::kTileRows;
      MatrixView rows = x.middle_rows(first, std::min(kernels::kTileRows, x.rows() - first));
      for (std::size_t i = 0; i < factors_.size(); ++i) {
        kernels::matmul_nt(rows, factors_[i], results[i]);
        if (i + 1 < factors_.size() && factors_[i + 1].cols() == results[i].cols())
          rows = results[i];
      }
    });
  }

 private:
  const Matrix& x_;
  std::vector<kernels::PackedMatrix> factors_;
};

template <class Detector>
const Detector& fitted() {
  static const std::unique_ptr<Detector> detector = [] {
    auto made = std::make_unique<Detector>();
    if (made->needs().fit.any()) made->fit(ImageNet::get().problem.fit_data(), kAllThreads);
    return made;
  }();
  return *detector;
}

template <class Detector, class Limit>
void score_against(benchmark::State& state, const char* ratio, double goal, const Limit& limit) {
  const Detector& detector = fitted<Detector>();
  const Batch rows = ImageNet::get().batch();
  std::vector<float> out(static_cast<std::size_t>(kRows));
  take_turns(
      state, ratio, [&] { detector.score(rows, out, kAllThreads); }, limit);
  if (goal > 0) state.counters["goal"] = goal;
  state.SetItemsProcessed(state.iterations() * kRows);
}

/// Logits alone: against a bare read of as many bytes.
template <class Detector>
void score_vs_read(benchmark::State& state, double goal = 0) {
  const StreamRead read(kRows * kClasses);
  score_against<Detector>(state, "score_over_read", goal,
                          [&] { benchmark::DoNotOptimize(read(kAllThreads)); });
  state.SetBytesProcessed(state.iterations() * kRows * kClasses * Index{sizeof(float)});
}

template <class Detector>
void score_vs_products(benchmark::State& state, double goal,
                       const std::vector<std::pair<Index, Index>>& shapes) {
  score_against<Detector>(state, "score_over_products", goal,
                          Products(ImageNet::get().features, shapes));
  Index flops = 0;
  for (const auto& [rows, depth] : shapes) flops += 2 * kRows * rows * depth;
  state.counters["flops"] =
      benchmark::Counter(static_cast<double>(flops), benchmark::Counter::kIsIterationInvariantRate);
}

constexpr double kReadGoal = 1.25;  // 80 % of the rate
void energy_vs_read(benchmark::State& state) { score_vs_read<Energy>(state, kReadGoal); }
void msp_vs_read(benchmark::State& state) { score_vs_read<Msp>(state, kReadGoal); }
void entropy_vs_read(benchmark::State& state) { score_vs_read<Entropy>(state); }
void gen_vs_read(benchmark::State& state) { score_vs_read<Gen>(state); }

const std::vector<std::pair<Index, Index>> kHead = {{kClasses, kDim}};
void conjnorm_vs_product(benchmark::State& state) {
  score_vs_products<ConjNorm>(state, 1.15, kHead);
}
void mahalanobis_vs_products(benchmark::State& state) {
  score_vs_products<Mahalanobis>(state, 1.2, {{kDim, kDim}, {kClasses, kDim}});
}
void vim_vs_product(benchmark::State& state) {
  score_vs_products<Vim>(state, 1.3, {{kDim - ResidualSpace::default_dim(kDim), kDim}});
}
void react_vs_product(benchmark::State& state) { score_vs_products<ReAct>(state, 1.3, kHead); }
void dice_vs_product(benchmark::State& state) { score_vs_products<Dice>(state, 1.3, kHead); }
void ash_vs_product(benchmark::State& state) { score_vs_products<Ash>(state, 1.3, kHead); }
void scale_vs_product(benchmark::State& state) { score_vs_products<Scale>(state, 1.3, kHead); }

/// One thread against all. Skipped where there is one only; fails where the bits differ.
template <class Detector>
void threads(benchmark::State& state) {
  if (thread_count(kAllThreads) == 1) return state.SkipWithError("there is one thread only");
  const Detector& detector = fitted<Detector>();
  const Batch rows = ImageNet::get().batch();
  std::vector<float> many(static_cast<std::size_t>(kRows)), one(many);
  take_turns(
      state, "speedup", [&] { detector.score(rows, one, {.threads = 1}); },
      [&] { detector.score(rows, many, kAllThreads); });
  if (many != one) state.SkipWithError("the scores differ");
  state.counters["goal"] = 1.8;
}

/// Training rows of ImageNet's shape; all classes are in every block, which makes merging as long as it can be.
struct TrainingRows {
  Matrix features = class_rows(normal_rows(kClasses, kDim, 1, 1), 200000, 9);
  std::vector<std::int64_t> labels = std::vector<std::int64_t>(200000);
  std::unique_ptr<MemorySource> source;

  TrainingRows() {
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<Index>(i) % kClasses;
    Batch batch;
    batch.features = features;
    batch.labels = labels;
    source = std::make_unique<MemorySource>(batch);
  }
  static TrainingRows& get() {
    static TrainingRows rows;
    return rows;
  }
};

/// Class means and scatter in float64, against the float32 product X^T X. The goal is half of its rate.
void class_moments_vs_gram(benchmark::State& state) {
  TrainingRows& rows = TrainingRows::get();
  Matrix gram;
  take_turns(
      state, "moments_over_gram",
      [&] {
        const ClassMoments empty(kClasses, kDim);
        benchmark::DoNotOptimize(reduce(*rows.source, empty, kAllThreads).rows());
      },
      [&] { sgemm_gram(rows.features, gram); });
  state.counters["goal"] = 2;
  state.SetItemsProcessed(state.iterations() * rows.features.rows());
}

/// One thread against all. Fails where the bits differ.
void class_moments_threads(benchmark::State& state) {
  if (thread_count(kAllThreads) == 1) return state.SkipWithError("there is one thread only");
  BatchSource& source = *TrainingRows::get().source;
  const ClassMoments empty(kClasses, kDim);
  ClassMoments one = empty, many = empty;
  take_turns(
      state, "speedup", [&] { one = reduce(source, empty, {.threads = 1}); },
      [&] { many = reduce(source, empty, kAllThreads); });
  if (fields_to_bytes(many) != fields_to_bytes(one)) state.SkipWithError("the moments differ");
  state.counters["goal"] = 1.8;
}

/// GB/s and GFLOP/s of the machine itself.
void stream_read(benchmark::State& state) {
  const StreamRead read(kRows * kClasses);
  for (auto _ : state) benchmark::DoNotOptimize(read(kAllThreads));
  state.SetBytesProcessed(state.iterations() * static_cast<Index>(read.bytes()));
}
void sgemm_peak(benchmark::State& state) {
  const Matrix x = normal_rows(4096, kDim, 1), b = normal_rows(1024, kDim, 2);
  Matrix out;
  for (auto _ : state) sgemm_nt(x, b, out);
  state.counters["flops"] = benchmark::Counter(2.0 * static_cast<double>(x.size() * b.rows()),
                                               benchmark::Counter::kIsIterationInvariantRate);
}
void product_seam(benchmark::State& state, kernels::Precision precision) {
  if (kernels::available(precision) != precision) return state.SkipWithError("not on this machine");
  const Matrix x = normal_rows(4096, kDim, 1);
  const kernels::PackedMatrix b(normal_rows(1024, kDim, 2), precision);
  for (auto _ : state)
    parallel_for(x.rows() / kernels::kTileRows, kAllThreads, [&](Index tile) {
      thread_local Matrix out;
      kernels::matmul_nt(MatrixView(x).middle_rows(tile * kernels::kTileRows, kernels::kTileRows),
                         b, out);
    });
  state.counters["flops"] = benchmark::Counter(2.0 * static_cast<double>(x.size() * b.rows()),
                                               benchmark::Counter::kIsIterationInvariantRate);
}

constexpr int kTurns = 9;
void in_turns(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->Iterations(kTurns)->Unit(benchmark::kMillisecond);
}

BENCHMARK(stream_read)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(sgemm_peak)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(product_seam, float32, kernels::Precision::float32)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(product_seam, bfloat16, kernels::Precision::bfloat16)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(energy_vs_read)->Apply(in_turns);
BENCHMARK(msp_vs_read)->Apply(in_turns);
BENCHMARK(entropy_vs_read)->Apply(in_turns);
BENCHMARK(gen_vs_read)->Apply(in_turns);
BENCHMARK(conjnorm_vs_product)->Apply(in_turns);
BENCHMARK(mahalanobis_vs_products)->Apply(in_turns);
BENCHMARK(vim_vs_product)->Apply(in_turns);
BENCHMARK(react_vs_product)->Apply(in_turns);
BENCHMARK(dice_vs_product)->Apply(in_turns);
BENCHMARK(ash_vs_product)->Apply(in_turns);
BENCHMARK(scale_vs_product)->Apply(in_turns);
BENCHMARK_TEMPLATE(threads, Energy)->Apply(in_turns);
BENCHMARK_TEMPLATE(threads, ConjNorm)->Apply(in_turns);
BENCHMARK_TEMPLATE(threads, Mahalanobis)->Apply(in_turns);
void in_few_turns(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);
}
BENCHMARK(class_moments_vs_gram)->Apply(in_few_turns);
BENCHMARK(class_moments_threads)->Apply(in_few_turns);

}  // namespace
