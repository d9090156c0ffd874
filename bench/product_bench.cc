// Products in each precision, taking turns with oneDNN's own on all rows at once, float32 and bfloat16 that is
// there already: what the machine gives to somebody who has no need of tiles, of rounding, or of the same bits for
// a row wherever it stands. And scores that are bound by them. Rates by processor time, medians; ratios are medians
// of the ratios of neighbours in time.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "interleaved.h"
#include "ood/kernels.h"
#include "ood/registry.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;
using kernels::Precision;

namespace {

constexpr Index kRows = 2048;

struct Work {
  std::string name;
  std::function<void()> run;
  std::vector<double> seconds;
};

/// Lets works take turns; counters: GFLOP/s of each (of the 2 n d m operations that the formula has), and its
/// speed relative to the first.
void take_turns(benchmark::State& state, std::vector<Work>& works, double flops) {
  for (auto _ : state)
    for (Work& work : works) work.seconds.push_back(seconds(work.run));
  for (const Work& work : works) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < work.seconds.size(); ++i)
      ratios.push_back(works.front().seconds[i] / work.seconds[i]);
    state.counters[fmt::format("{}_gflops", work.name)] = 1e-9 * flops / median(work.seconds);
    state.counters[fmt::format("{}_vs_{}", work.name, works.front().name)] = median(ratios);
  }
}

/// b^T as oneDNN likes it for x of bfloat16, and the product of all rows.
class BareBfloat16 {
 public:
  BareBfloat16(const Matrix& x, const Matrix& b, Matrix& out) {
    using dnnl::memory;
    const auto rounded = memory::data_type::bf16, whole = memory::data_type::f32;
    const Index n = x.rows(), d = x.cols(), m = b.rows();
    const auto described = [&](Index rows, Index cols, memory::data_type type, bool transposed) {
      using Tag = memory::format_tag;
      return memory::desc({rows, cols}, type, transposed ? Tag::ba : Tag::ab);
    };
    x_ = memory(described(n, d, rounded, false), engine_);
    out_ = memory(described(n, m, whole, false), engine_, out.data());
    const dnnl::matmul::primitive_desc description(
        dnnl::matmul::desc(x_.get_desc(), memory::desc({d, m}, rounded, memory::format_tag::any),
                           out_.get_desc()),
        engine_);
    b_ = memory(description.weights_desc(), engine_);
    memory from_x(described(n, d, whole, false), engine_, const_cast<float*>(x.data()));
    memory from_b(described(d, m, whole, true), engine_, const_cast<float*>(b.data()));
    dnnl::reorder(from_x, x_).execute(stream_, from_x, x_);
    dnnl::reorder(from_b, b_).execute(stream_, from_b, b_);
    product_ = dnnl::matmul(description);
    stream_.wait();
  }
  void operator()() {
    product_.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, b_}, {DNNL_ARG_DST, out_}});
    stream_.wait();
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::memory x_, b_, out_;
  dnnl::matmul product_;
};

std::string_view name_of(Precision precision) {
  return kernels::kPrecisions[static_cast<std::size_t>(precision)];
}

/// Those that products have here.
std::vector<Precision> precisions() {
  std::vector<Precision> list;
  for (std::size_t i = 0; i < kernels::kPrecisions.size(); ++i)
    if (const auto each = static_cast<Precision>(i); kernels::available(each) == each)
      list.push_back(each);
  return list;
}

void product(benchmark::State& state) {
  omp_set_num_threads(1);  // for oneDNN's own
  const Index d = state.range(0), m = state.range(1);
  const Matrix x = normal_rows(kRows, d, 1), b = normal_rows(m, d, 2);
  Matrix out(kRows, m);
  std::vector<Work> works;
  for (const Precision precision : precisions()) {
    const kernels::PackedMatrix packed(b, precision);
    works.push_back({std::string(name_of(precision)),
                     [&x, &out, packed] {
                       for (Index i = 0; i < kRows; i += kernels::kTileRows)
                         kernels::matmul_nt(
                             MatrixView(x).middle_rows(i, kernels::kTileRows), packed,
                             MatrixMap(out.row(i).data(), kernels::kTileRows, out.cols()));
                     },
                     {}});
  }
  works.push_back({"bare_float32",
                   [&] {
                     dnnl_sgemm('N', 'T', kRows, m, d, 1.0f, x.data(), d, b.data(), d, 0.0f,
                                out.data(), m);
                   },
                   {}});
  if (works.size() > 2) {
    const auto bare = std::make_shared<BareBfloat16>(x, b, out);
    works.push_back({"bare_bfloat16", [bare] { (*bare)(); }, {}});
  }
  take_turns(state, works, 2.0 * static_cast<double>(kRows * d * m));
}

/// The scores of one detector, fitted once; the state does not depend on the precision.
void score(benchmark::State& state, const std::string& name) {
  const Index d = state.range(0), m = state.range(1);
  const Matrix means = normal_rows(m, d, 1, 1), train = class_rows(means, 4 * m, 2),
               rows = class_rows(means, kRows, 3);
  std::vector<std::int64_t> labels;
  for (Index i = 0; i < train.rows(); ++i) labels.push_back(i % m);
  const Head head = {.weight = means, .bias = Vector::Zero(m)};
  Batch arrays, scored;
  arrays.features = train;
  arrays.labels = labels;
  scored.features = rows;
  std::vector<float> out(static_cast<std::size_t>(kRows));
  std::vector<Work> works;
  for (const Precision precision : precisions()) {
    const std::shared_ptr<Detector> detector =
        make_detector(name, {{"precision", std::string(name_of(precision))}});
    MemorySource source(arrays, &head);
    detector->fit(source, {.threads = 1});
    works.push_back({std::string(name_of(precision)),
                     [&scored, &out, detector] { detector->score(scored, out, {.threads = 1}); },
                     {}});
  }
  take_turns(state, works, 2.0 * static_cast<double>(kRows * d * m));
}

/// d, m
void product_shapes(benchmark::internal::Benchmark* benchmark) {
  for (const Index d : {342, 512, 2048})
    for (const Index m : {10, 100, 1000, 1024}) benchmark->Args({d, m});
  benchmark->Unit(benchmark::kMillisecond)->MinTime(1);
}
void score_shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({342, 10})->Args({2048, 1000})->Unit(benchmark::kMillisecond)->MinTime(1);
}

BENCHMARK(product)->Apply(product_shapes);
BENCHMARK_CAPTURE(score, conjnorm, "conjnorm")->Apply(score_shapes);
BENCHMARK_CAPTURE(score, max_cosine, "max_cosine")->Apply(score_shapes);
BENCHMARK_CAPTURE(score, react, "react")->Apply(score_shapes);

}  // namespace
