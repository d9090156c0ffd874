/// How bodies run on a GPU: an entry is a thread, a row is a warp.
#pragma once

#include <algorithm>

#include "kernels/bodies/body.h"
#include "kernels/cuda/runtime.h"

namespace ood::kernels {

/// The 32 lanes of a warp; what HostLanes<32> gives, in the same order. Memory that a lane writes in each() or
/// once() is seen by all of them after it.
struct DeviceLanes : LanesOf<DeviceLanes> {
  static constexpr int kLanes = 32;

  template <class State, class Step, class Merge>
  OOD_BODY State reduce(Index n, State start, Step step, Merge merge) const {
#ifdef __CUDA_ARCH__
    const int lane = own_lane();
    State own = start;
#pragma unroll 4
    for (Index j = lane; j < n; j += kLanes) step(own, j);
#pragma unroll
    for (int half = kLanes / 2; half > 0; half /= 2) {
      const State other =
          shuffled(own, [&](unsigned word) { return __shfl_down_sync(kAll, word, half); });
      if (lane < half) merge(own, other);
    }
    return shuffled(own, [](unsigned word) { return __shfl_sync(kAll, word, 0); });
#else
    return start;  // bodies are compiled for the host too, but run here on no lane of it
#endif
  }

  template <class Work>
  OOD_BODY void each(Index n, Work work) const {
#ifdef __CUDA_ARCH__
    __syncwarp();
#pragma unroll 4
    for (Index j = own_lane(); j < n; j += kLanes) work(j);
    __syncwarp();
#endif
  }

  template <class Work>
  OOD_BODY void once(Work work) const {
#ifdef __CUDA_ARCH__
    __syncwarp();
    if (own_lane() == 0) work();
    __syncwarp();
#endif
  }

 private:
#ifdef __CUDA_ARCH__
  static constexpr unsigned kAll = 0xffffffffu;
  static __device__ int own_lane() { return static_cast<int>(threadIdx.x % kLanes); }

  /// A state of any type, as words of 32 bits.
  template <class State, class Shuffle>
  static __device__ State shuffled(const State& state, Shuffle shuffle) {
    static_assert(__is_trivially_copyable(State));
    constexpr int kWords = (sizeof(State) + sizeof(unsigned) - 1) / sizeof(unsigned);
    unsigned words[kWords] = {};
    memcpy(words, &state, sizeof(State));
#pragma unroll
    for (int i = 0; i < kWords; ++i) words[i] = shuffle(words[i]);
    State other = state;
    memcpy(&other, words, sizeof(State));
    return other;
  }
#endif
};

inline constexpr int kThreadsOfBlock = 256;

template <class Body>
__global__ void __launch_bounds__(kThreadsOfBlock)
    run_entries(const __grid_constant__ Body body, Index count) {
  const Index threads = Index{gridDim.x} * kThreadsOfBlock;
  for (Index i = Index{blockIdx.x} * kThreadsOfBlock + threadIdx.x; i < count; i += threads)
    body(i);
}

template <class Body>
__global__ void __launch_bounds__(kThreadsOfBlock)
    run_rows(const __grid_constant__ Body body, Index count) {
  constexpr int kWarps = kThreadsOfBlock / DeviceLanes::kLanes;
  const Index warps = Index{gridDim.x} * kWarps;
  for (Index row = Index{blockIdx.x} * kWarps + threadIdx.x / DeviceLanes::kLanes; row < count;
       row += warps)
    body(row, DeviceLanes());
}

template <class Body>
void launch_on_cuda(const Body& body, Index count, void* stream) {
  if (count <= 0) return;
  constexpr bool kEntries = requires(const Body& b, Index i) { b(i); };
  constexpr Index kOfBlock = kEntries ? kThreadsOfBlock : kThreadsOfBlock / DeviceLanes::kLanes;
  constexpr Index kMostBlocks = Index{1} << 16;
  const auto blocks =
      static_cast<unsigned>(std::min((count + kOfBlock - 1) / kOfBlock, kMostBlocks));
  const auto queue = static_cast<cudaStream_t>(stream);
  cudaGetLastError();  // what somebody else has left there
  if constexpr (kEntries)
    run_entries<<<blocks, kThreadsOfBlock, 0, queue>>>(body, count);
  else
    run_rows<<<blocks, kThreadsOfBlock, 0, queue>>>(body, count);
  OOD_CUDA_CALL(cudaGetLastError);
}

/// For OOD_..._BODIES.
#define OOD_LAUNCH_ON_CUDA(body) \
  template void launch_on_cuda<bodies::body>(const bodies::body&, Index, void*);

}  // namespace ood::kernels
