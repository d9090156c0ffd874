// fit and score of every detector of the list, on one thread: fitted on 10,000 rows (what a
// detector that keeps rows has as its bank), 4,096 rows scored.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <memory>

#include "ood/batch.h"
#include "ood/detectors.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr Index kFitRows = 10000, kScoreRows = 4096;
constexpr Exec kOneThread{1};

/// Features around class means, logits by a random head.
class Problem {
 public:
  Problem(Index dim, Index classes) {
    head_.weight = normal_rows(classes, dim, 1, 0.1f);
    head_.bias = Vector::Zero(classes);
    const Matrix means = normal_rows(classes, dim, 2, 1);
    features_ = normal_rows(kFitRows, dim, 3, 1);
    for (Index i = 0; i < kFitRows; ++i) {
      labels_.push_back(i % classes);
      features_.row(i) += means.row(i % classes);
    }
    logits_ = features_ * head_.weight.transpose();
    arrays_.features = features_;
    arrays_.logits = logits_;
    arrays_.labels = labels_;
    source_ = std::make_unique<MemorySource>(arrays_, &head_);
  }

  BatchSource& source() { return *source_; }
  Batch scored() const { return arrays_.slice(0, kScoreRows); }

  /// The problem of this shape, made when it is first asked for.
  static Problem& of_shape(Index dim, Index classes) {
    static std::map<Index, std::unique_ptr<Problem>> problems;
    auto& problem = problems[dim];
    if (!problem) problem = std::make_unique<Problem>(dim, classes);
    return *problem;
  }

 private:
  Head head_;
  Matrix features_, logits_;
  std::vector<std::int64_t> labels_;
  Batch arrays_;
  std::unique_ptr<MemorySource> source_;
};

/// The detector fitted on the problem of a width: fitting is far slower than scoring.
template <class Detector>
std::unique_ptr<Detector>& fitted(Index dim) {
  static std::map<Index, std::unique_ptr<Detector>> detectors;
  return detectors[dim];
}

/// Marks the benchmark as skipped if the problem lacks what the detector needs.
bool lacks_input(benchmark::State& state, const Inputs& needed, const BatchSource& source) {
  const Inputs missing = needed.without(source.info().has);
  if (missing.any()) state.SkipWithError(fmt::format("needs {}", missing.names()).c_str());
  return missing.any();
}

template <class Detector>
void fit(benchmark::State& state, Index dim, Index classes) {
  Problem& problem = Problem::of_shape(dim, classes);
  if (lacks_input(state, Detector().needs().fit, problem.source())) return;
  auto& detector = fitted<Detector>(dim);
  for (auto _ : state) {
    detector = std::make_unique<Detector>();
    detector->fit(problem.source(), kOneThread);
  }
  state.SetItemsProcessed(state.iterations() * kFitRows);
}

template <class Detector>
void score(benchmark::State& state, Index dim, Index classes) {
  Problem& problem = Problem::of_shape(dim, classes);
  const Needs needs = Detector().needs();
  if (lacks_input(state, needs.fit.with(needs.score), problem.source())) return;
  auto& detector = fitted<Detector>(dim);
  if (!detector) {
    detector = std::make_unique<Detector>();
    detector->fit(problem.source(), kOneThread);
  }
  std::vector<float> out(static_cast<std::size_t>(kScoreRows));
  for (auto _ : state) {
    detector->score(problem.scored(), out, kOneThread);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kScoreRows);
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
  add_detectors(2048, 1000);
  return true;
}();

}  // namespace
