// Scores and ranks on a GPU against what they cannot do without, in turns: reading memory, products, a sort. The
// counter `goal` says how many times the limit's time a work may take.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>
#include <memory>

#include "cuda_limits.h"
#include "interleaved.h"
#include "ood/cuda.h"
#include "ood/detectors.h"
#include "ood/devices.h"
#include "problem.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Device kGpu{Device::Kind::cuda, 0};
constexpr Index kRows = 50'000, kDim = 2048, kClasses = 1000;

std::size_t bytes_of(Index floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

/// What the CUDA side throws ends the benchmark, not the run.
template <class Work>
void guarded(benchmark::State& state, const Work& work) {
  try {
    work();
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

/// Rows in the GPU's memory: those of `block` again and again.
std::unique_ptr<GpuMemory> repeated(const Matrix& block, Index rows) {
  auto there = std::make_unique<GpuMemory>(bytes_of(rows * block.cols()));
  for (Index first = 0; first < rows; first += block.rows())
    fill_from_host(there->floats() + first * block.cols(), block.data(),
                   bytes_of(std::min(block.rows(), rows - first) * block.cols()));
  return there;
}

/// The detector's time over that of a copy of its rows, which reads and writes each byte: 0.5 is all there is.
void energy_vs_copy(benchmark::State& state) {
  guarded(state, [&] {
    const Index rows = state.range(0);
    const auto logits = repeated(normal_rows(kRows, kClasses), rows);
    const GpuMemory copy(bytes_of(rows * kClasses)), out(bytes_of(rows));
    Batch batch;
    batch.logits = MatrixView(logits->floats(), rows, kClasses);
    const Energy detector;
    take_turns(
        state, "score_over_copy",
        [&] {
          cuda::score(detector, batch, out.floats(), kGpu);
          wait_for_gpu();
        },
        [&] { gpu_copy(copy.data(), logits->data(), bytes_of(rows * kClasses)); });
    const auto bytes = static_cast<double>(bytes_of(rows * kClasses));
    state.counters["score_GB_per_s"] = 1e-6 * bytes / state.counters["work_ms"];
    state.counters["copy_GB_per_s"] = 2e-6 * bytes / state.counters["other_ms"];
    state.counters["goal"] = 0.625;  // 80 % of the rate of the copy
  });
}

/// The same from arrays of the host, beside a bare copy of them from pinned memory.
void energy_streamed_vs_copy(benchmark::State& state) {
  guarded(state, [&] {
    constexpr Index kStreamed = 500'000;
    const Matrix block = normal_rows(kRows, kClasses);
    const Matrix logits = block.replicate(kStreamed / kRows, 1);
    const PinnedCopy copy(bytes_of(logits.size()));
    const GpuMemory there(bytes_of(logits.size()));
    Batch batch;
    batch.logits = logits;
    std::vector<float> out(static_cast<std::size_t>(kStreamed));
    const Energy detector;
    take_turns(
        state, "score_over_copy", [&] { detector.score(batch, out, {.device = kGpu}); },
        [&] { copy.to(there.data()); });
    state.counters["score_GB_per_s"] =
        1e-6 * static_cast<double>(bytes_of(logits.size())) / state.counters["work_ms"];
  });
}

/// Against its products alone, factors of [first of pair, second].
template <class Detector>
void score_vs_products(benchmark::State& state, double goal,
                       const std::vector<std::pair<Index, Index>>& shapes) {
  guarded(state, [&] {
    Detector detector;
    detector.fit(Problem::of_shape(kDim, kClasses).fit_data());
    const auto features = repeated(class_rows(normal_rows(kClasses, kDim, 1, 1), kRows, 8), kRows);
    Batch batch;
    batch.features = MatrixView(features->floats(), kRows, kDim);
    const GpuMemory out(bytes_of(kRows));
    const GpuProduct product;
    std::vector<std::unique_ptr<GpuMemory>> factors, results;
    for (const auto& [rows, depth] : shapes) {
      factors.push_back(repeated(normal_rows(rows, depth, 1, 0.1f), rows));
      results.push_back(std::make_unique<GpuMemory>(bytes_of(kRows * rows)));
    }
    take_turns(
        state, "score_over_products",
        [&] {
          cuda::score(detector, batch, out.floats(), kGpu);
          wait_for_gpu();
        },
        [&] {
          for (std::size_t i = 0; i < shapes.size(); ++i)
            product(features->floats(), kRows, factors[i]->floats(), shapes[i].first,
                    shapes[i].second, results[i]->floats());
          wait_for_gpu();
        });
    double flops = 0;
    for (const auto& [rows, depth] : shapes)
      flops += 2.0 * static_cast<double>(kRows) * static_cast<double>(rows * depth);
    state.counters["score_TFLOP_per_s"] = 1e-9 * flops / state.counters["work_ms"];
    state.counters["goal"] = goal;
  });
}
void conjnorm_vs_product(benchmark::State& state) {
  score_vs_products<ConjNorm>(state, 1.15, {{kClasses, kDim}});
}
void mahalanobis_vs_products(benchmark::State& state) {
  score_vs_products<Mahalanobis>(state, 1.2, {{kDim, kDim}, {kClasses, kDim}});
}

/// ImageNet's training rows, made while they are read: one block, moved by as much as its number says.
class ManyRows final : public BatchSource {
 public:
  explicit ManyRows(Index rows) : block_(normal_rows(1 << 14, kDim, 3, 1)) {
    info_.name = "bench";
    info_.rows = rows;
    info_.dim = kDim;
    info_.has.features = true;
  }
  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return nullptr; }
  void read(const Inputs&, const std::function<void(const Batch&)>& visit) override {
    Matrix moved;
    for (Index first = 0, number = 0; first < info_.rows; first += block_.rows(), ++number) {
      moved = block_.topRows(std::min(block_.rows(), info_.rows - first)).array() +
              0.01f * static_cast<float>(number);
      Batch batch;
      batch.features = moved;
      batch.first_row = first;
      visit(batch);
    }
  }

 private:
  Matrix block_;
  SourceInfo info_;
};

/// 10.5 GB in the GPU; the limit is the product with all rows, in parts whose results fit.
void knn_vs_product(benchmark::State& state) {
  guarded(state, [&] {
    constexpr Index kBank = 1'280'000, kQueries = 10'000, kPart = 80'000;
    Knn detector({.k = 50});
    {
      ManyRows bank(kBank);
      detector.fit(bank);
    }
    const Matrix queries = normal_rows(kQueries, kDim, 4, 1);
    const auto there = repeated(queries, kQueries);
    Batch batch;
    batch.features = MatrixView(there->floats(), kQueries, kDim);
    const GpuMemory out(bytes_of(kQueries)), result(bytes_of(kQueries * kPart));
    const auto part = repeated(normal_rows(kPart, kDim, 5, 1), kPart);
    const GpuProduct product(true);  // as the search multiplies
    take_turns(
        state, "score_over_product",
        [&] {
          cuda::score(detector, batch, out.floats(), kGpu);
          wait_for_gpu();
        },
        [&] {
          for (Index first = 0; first < kBank; first += kPart)
            product(there->floats(), kQueries, part->floats(), kPart, kDim, result.floats());
          wait_for_gpu();
        });
  });
}

void auroc_vs_sort(benchmark::State& state) {
  guarded(state, [&] {
    constexpr Index kScores = 20'000'000;
    const Matrix scores = normal_rows(kScores, 1);
    const auto there = repeated(scores, kScores);
    const GpuMemory sorted(bytes_of(kScores));
    const std::size_t bytes = radix_sort_bytes(kScores);
    const GpuMemory room(bytes);
    take_turns(
        state, "auroc_over_sort",
        [&] {
          benchmark::DoNotOptimize(cuda::auroc(there->floats(), kScores / 2,
                                               there->floats() + kScores / 2, kScores / 2, kGpu));
        },
        [&] {
          radix_sort(room.data(), bytes, static_cast<const std::uint32_t*>(there->data()),
                     static_cast<std::uint32_t*>(sorted.data()), kScores);
        });
    state.counters["goal"] = 2;
  });
}

void in_turns(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->Iterations(9)->Unit(benchmark::kMillisecond);
}
void in_few_turns(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);
}
BENCHMARK(energy_vs_copy)->Apply(in_turns)->Arg(50'000)->Arg(1'000'000);
BENCHMARK(conjnorm_vs_product)->Apply(in_turns);
BENCHMARK(mahalanobis_vs_products)->Apply(in_turns);
BENCHMARK(auroc_vs_sort)->Apply(in_turns);
BENCHMARK(energy_streamed_vs_copy)->Apply(in_few_turns);
BENCHMARK(knn_vs_product)->Apply(in_few_turns);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  if (cuda::devices().empty()) {
    std::printf("skipped: %s\n", cuda::description().c_str());
    return 77;
  }
  benchmark::AddCustomContext("device", cuda::devices().front().name);
  benchmark::AddCustomContext("cuda", cuda::description());
  benchmark::RunSpecifiedBenchmarks();
}
