/// How work is spread: one threading runtime, fixed tiles of rows, one thread for each tile.
#pragma once

#include <functional>

#include "ood/matrix.h"

namespace ood {

/// Where and how a computation runs. Results do not depend on it, to the bit.
struct Exec {
  int threads = 0;  ///< threads to use; 0 = all that the machine offers (OMP_NUM_THREADS is obeyed)
};

/// The number of threads that `exec` stands for, at least 1. Throws std::invalid_argument if
/// negative.
int thread_count(const Exec& exec);

/// Calls task(i) for i in [0, count), each once, on up to thread_count(exec) threads. Any code that
/// a task calls sees a single-threaded runtime, so that nothing inside it depends on the number of
/// threads. The first exception that a task throws is thrown here after all threads have stopped. A
/// child that was forked after this was called on several threads works on one.
void parallel_for(Index count, const Exec& exec, const std::function<void(Index)>& task);

}  // namespace ood
