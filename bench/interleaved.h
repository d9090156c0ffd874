/// For works that are compared by taking turns on a busy machine.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
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

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace ood::bench
