// ConjNorm's score on one thread, beside the float32 product that it cannot do without and beside
// what a user would write instead, float64 NumPy. So that a busy machine matters little, two that
// are compared take turns, their times are processor times, and the medians make the ratio.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <memory>

#include "coprocess.h"
#include "ood/detectors/conjnorm.h"
#include "ood/kernels.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Index kFitRows = 5000, kScoreRows = 10000;
constexpr double kP = 2.5, kTemperature = 0.08;
constexpr double kTolerance = 1e-3;  // of a float32 score against float64, relative

/// Clusters behind a ReLU, as penultimate features are: not negative, about half of them 0.
Matrix class_rows(const Matrix& means, Index rows, std::uint32_t seed) {
  Matrix x = normal_rows(rows, means.cols(), seed, 0.5f);
  for (Index i = 0; i < rows; ++i) x.row(i) += means.row(i % means.rows());
  return x.cwiseMax(0);
}

struct Problem {
  Problem(Index dim, Index classes) {
    const Matrix means = normal_rows(classes, dim, 1, 1);
    train = class_rows(means, kFitRows, 2);
    rows = class_rows(means, kScoreRows, 3);
    for (Index i = 0; i < kFitRows; ++i) labels.push_back(i % classes);
    Batch arrays;
    arrays.features = train;
    arrays.labels = labels;
    MemorySource source(arrays);
    detector.set_options({{"p", kP}, {"temperature", kTemperature}, {"partition", "pooled"}});
    detector.fit(source, {.threads = 1});
    packed = kernels::PackedMatrix(means);
  }

  void score() {
    Batch batch;
    batch.features = rows;
    detector.score(batch, scores, {.threads = 1});
  }

  /// The product of the score, rows with a [C, D] matrix, in the tiles that the score is cut into.
  void multiply() {
    const MatrixView x = rows;
    for (Index first = 0; first < x.rows(); first += kernels::kTileRows)
      kernels::matmul_nt(x.middle_rows(first, std::min(kernels::kTileRows, x.rows() - first)),
                         packed, product);
  }

  Matrix train, rows;
  std::vector<std::int64_t> labels;
  ConjNorm detector;
  std::vector<float> scores = std::vector<float>(static_cast<std::size_t>(kScoreRows));
  kernels::PackedMatrix packed;
  Matrix product;
};

/// NumPy in a process of its own, which has fitted on the rows of a problem and scored them too.
class Numpy {
 public:
  explicit Numpy(Problem& problem) : process_(OOD_BENCH_PYTHON, OOD_BENCH_SCRIPT) {
    VectorD scores(kScoreRows);
    const auto head = fmt::format("{} {} {} {} {} {}\n", kFitRows, kScoreRows, problem.rows.cols(),
                                  problem.packed.rows(), kP, kTemperature);
    const bool answered = process_.send(head) && process_.send(problem.train) &&
                          process_.send(problem.labels) && process_.send(problem.rows) &&
                          !(made_of_ = process_.read_line()).empty() && process_.read(scores);
    if (!answered) {
      error_ = "no NumPy in " OOD_BENCH_PYTHON "; set OOD_BENCH_PYTHON in CMake to one that has it";
      return;
    }
    problem.score();
    const auto ours = Eigen::Map<const Vector>(problem.scores.data(), kScoreRows).cast<double>();
    const double difference = ((ours - scores).array() / scores.array().abs().max(1))
                                  .abs()
                                  .maxCoeff<Eigen::PropagateNaN>();
    if (!(difference < kTolerance))
      error_ = fmt::format("scores differ from NumPy's by {}, expected below {}", difference,
                           kTolerance);
  }

  const std::string& error() const { return error_; }      ///< empty if all is well
  const std::string& made_of() const { return made_of_; }  ///< "NumPy 1.24.2, libblas.so.3.11.0"

  /// Scores all rows; the seconds of processor time.
  double score() {
    process_.send(std::string("score\n"));
    return std::stod(process_.read_line());
  }

 private:
  Coprocess process_;
  std::string made_of_, error_;
};

/// What belongs to the shape of a benchmark, made when it is first asked for.
template <class Thing, class... Arguments>
Thing& of_shape(const benchmark::State& state, Arguments&&... arguments) {
  static std::map<Index, std::unique_ptr<Thing>> things;
  auto& thing = things[state.range(1)];
  if (!thing) thing = std::make_unique<Thing>(std::forward<Arguments>(arguments)...);
  return *thing;
}
Problem& problem_of(const benchmark::State& state) {
  return of_shape<Problem>(state, state.range(1), state.range(2));
}

/// bytes = the rows that are read, in float32; flops = 2 n D C, those of the product alone, so that
/// the rates of the score and of the product can be compared.
void count(benchmark::State& state) {
  const Index n = state.range(0), dim = state.range(1), classes = state.range(2);
  state.SetBytesProcessed(state.iterations() * n * dim * Index{sizeof(float)});
  state.counters["flops"] = benchmark::Counter(2.0 * static_cast<double>(n * dim * classes),
                                               benchmark::Counter::kIsIterationInvariantRate);
}

/// The processor time of this process, all threads together.
template <class Work>
double seconds(const Work& work) {
  const std::clock_t start = std::clock();
  work();
  benchmark::ClobberMemory();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

void conjnorm_score(benchmark::State& state) {
  Problem& problem = problem_of(state);
  for (auto _ : state) problem.score();
  count(state);
}

void conjnorm_bare_product(benchmark::State& state) {
  Problem& problem = problem_of(state);
  for (auto _ : state) problem.multiply();
  count(state);
}

/// The time is that of the score.
void conjnorm_score_vs_product(benchmark::State& state) {
  Problem& problem = problem_of(state);
  std::vector<double> product, score;
  for (auto _ : state) {
    product.push_back(seconds([&] { problem.multiply(); }));
    score.push_back(seconds([&] { problem.score(); }));
    state.SetIterationTime(score.back());
  }
  count(state);
  state.counters["product_ms"] = 1e3 * median(product);
  state.counters["score_ms"] = 1e3 * median(score);
  state.counters["score_over_product"] = median(score) / median(product);
}

/// The time is that of NumPy. Its label says which BLAS does its product: that decides much.
void conjnorm_numpy(benchmark::State& state) {
  Problem& problem = problem_of(state);
  Numpy& numpy = of_shape<Numpy>(state, problem);
  if (!numpy.error().empty()) return state.SkipWithError(numpy.error().c_str());
  for (auto _ : state) state.SetIterationTime(numpy.score());
  count(state);
  state.SetLabel(numpy.made_of());
}

/// The time is that of the score.
void conjnorm_score_vs_numpy(benchmark::State& state) {
  Problem& problem = problem_of(state);
  Numpy& numpy = of_shape<Numpy>(state, problem);
  if (!numpy.error().empty()) return state.SkipWithError(numpy.error().c_str());
  std::vector<double> theirs, score;
  for (auto _ : state) {
    theirs.push_back(numpy.score());
    score.push_back(seconds([&] { problem.score(); }));
    state.SetIterationTime(score.back());
  }
  count(state);
  state.SetLabel(numpy.made_of());
  state.counters["numpy_ms"] = 1e3 * median(theirs);
  state.counters["score_ms"] = 1e3 * median(score);
  state.counters["numpy_over_score"] = median(theirs) / median(score);
}

/// n, D, C
void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({kScoreRows, 342, 100})->Args({kScoreRows, 2048, 1000});
  benchmark->Unit(benchmark::kMillisecond);
}

BENCHMARK(conjnorm_score)->Apply(shapes);
BENCHMARK(conjnorm_bare_product)->Apply(shapes);
BENCHMARK(conjnorm_score_vs_product)->Apply(shapes)->UseManualTime()->MinTime(2);
BENCHMARK(conjnorm_numpy)->Apply(shapes)->UseManualTime();
BENCHMARK(conjnorm_score_vs_numpy)->Apply(shapes)->UseManualTime()->Iterations(3);

}  // namespace
