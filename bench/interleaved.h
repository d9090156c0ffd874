/// For works that are compared by taking turns on a busy machine.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

namespace ood::bench {

/// The processor time of this process, all threads together.
template <class Work>
double seconds(const Work& work) {
  const std::clock_t start = std::clock();
  work();
  benchmark::ClobberMemory();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

/// How long it takes, for works on several threads.
template <class Work>
double wall_seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  benchmark::ClobberMemory();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// Two works in turns until the benchmark has enough of them; its time is that of the first. The ratio,
/// a counter `name`, is the median of theirs.
template <class Work, class Other>
void take_turns(benchmark::State& state, const char* name, const Work& work, const Other& other) {
  work();  // buffers that a first call makes
  other();
  std::vector<double> works, others, ratios;
  for (auto _ : state) {
    others.push_back(wall_seconds(other));
    works.push_back(wall_seconds(work));
    ratios.push_back(works.back() / others.back());
    state.SetIterationTime(works.back());
  }
  state.counters["work_ms"] = 1e3 * median(works);
  state.counters["other_ms"] = 1e3 * median(others);
  state.counters[name] = median(ratios);
}

}  // namespace ood::bench
