/// How work is spread: one threading runtime, fixed tiles of rows, one thread for each tile; or a GPU.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "ood/matrix.h"

namespace ood {

/// What scores rows: the processor, or one of the machine's GPUs (ood/devices.h).
struct Device {
  enum class Kind { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;  ///< of the GPU, as CUDA counts them

  /// "cpu", "cuda" (the first one) or "cuda:<index>". Throws std::invalid_argument for another text.
  static Device parse(std::string_view text);
  std::string name() const;  ///< "cpu", "cuda:0", ...
  bool operator==(const Device&) const = default;
};

/// Where and how a computation runs. Results do not depend on the number of threads, to the bit; those of a
/// GPU agree with the processor's within the bounds of ood/kernels.h.
struct Exec {
  int threads = 0;  ///< threads to use; 0 = all that the machine offers (OMP_NUM_THREADS is obeyed)
  Device device{};  ///< for scores
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
