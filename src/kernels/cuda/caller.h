/// What src/cuda.cc asks of CUDA: work on a stream and on arrays of the caller. In the stub each throws.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/device.h"

namespace ood::kernels {

/// A queue on the caller's stream (a cudaStream_t; nullptr is the legacy default stream), nobody else's while
/// it is held. Its memory is used again by later ones, whose work waits until this one's is done.
std::shared_ptr<DeviceQueue> lend_cuda_queue(int index, void* stream);

/// Throws std::invalid_argument, which calls it `array`, unless the pointer's memory is the device's, or managed.
void require_memory_of(int index, const char* array, const void* pointer);

/// Of two sets of scores in the device.
struct ScorePairs {
  std::uint64_t ordered_twice =
      0;  ///< pairs with id > ood count two, ties one; exact while n m < 2^63
  std::uint64_t first_nan_id = 0, first_nan_ood = 0;  ///< n, m if there is none
};
/// Waits for the result.
ScorePairs count_pairs(DeviceQueue& queue, void* stream, const float* id, Index n, const float* ood,
                       Index m);

}  // namespace ood::kernels
