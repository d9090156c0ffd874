// Pairs of scores in order, by sorting both sets: what AUROC is made of.
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/caller.h"
#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

namespace {

using Key = std::uint32_t;
using Count = unsigned long long;  // what atomics take

/// keys[i] is in the order of the scores; equal ones, such as -0 and +0, have one.
struct MakeKeys {
  const float* scores;
  Key* keys;
  Count* first_nan;
  __device__ void operator()(Index i) const {
    if (scores[i] != scores[i]) atomicMin(first_nan, static_cast<Count>(i));
    constexpr Key kSign = 0x80000000u;
    const Key bits = __float_as_uint(scores[i]);
    keys[i] = bits == kSign ? kSign : bits < kSign ? bits | kSign : ~bits;
  }
};

/// How many of the ascending keys are below `key`, or, with `equal`, at most `key`.
__device__ Count count_below(const Key* keys, Index n, Key key, bool equal) {
  Index begin = 0, end = n;
  while (begin < end) {
    const Index middle = begin + (end - begin) / 2;
    if (keys[middle] < key || (equal && keys[middle] == key))
      begin = middle + 1;
    else
      end = middle;
  }
  return static_cast<Count>(begin);
}

/// Whole numbers: the order of additions does not matter.
__global__ void add_pairs(const Key* id, Index n, const Key* ood, Index m, Count* total) {
  Count own = 0;
  const Index threads = Index{gridDim.x} * blockDim.x;
  for (Index i = Index{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads)
    own += count_below(ood, m, id[i], false) + count_below(ood, m, id[i], true);
  for (int half = 16; half > 0; half /= 2) own += __shfl_down_sync(0xffffffffu, own, half);
  if (threadIdx.x % 32 == 0) atomicAdd(total, own);
}

Key* sorted_keys(Scratch& scratch, const float* scores, Index n, Count* first_nan,
                 cudaStream_t stream) {
  Key* const keys = scratch.span<Key>(n).data();
  Key* const sorted = scratch.span<Key>(n).data();
  launch_on_cuda(MakeKeys{scores, keys, first_nan}, n, stream);
  std::size_t bytes = 0;
  OOD_CUDA_CALL(cub::DeviceRadixSort::SortKeys, nullptr, bytes, keys, sorted, n, 0, 32, stream);
  void* const room = scratch.span<std::byte>(static_cast<Index>(bytes)).data();
  OOD_CUDA_CALL(cub::DeviceRadixSort::SortKeys, room, bytes, keys, sorted, n, 0, 32, stream);
  return sorted;
}

}  // namespace

ScorePairs count_pairs(DeviceQueue& queue, void* stream, const float* id, Index n, const float* ood,
                       Index m) {
  const OnDevice on(queue.device().index);
  const ArenaScope arena(queue.arena());
  Scratch scratch;
  const auto to = static_cast<cudaStream_t>(stream);
  Count counts[3] = {0, static_cast<Count>(n), static_cast<Count>(m)};
  Count* const there = scratch.span<Count>(3).data();
  queue.copy_in(there, counts, sizeof counts);
  const Key* const ids = sorted_keys(scratch, id, n, there + 1, to);
  const Key* const oods = sorted_keys(scratch, ood, m, there + 2, to);
  constexpr Index kMostBlocks = 4096;
  const auto blocks =
      static_cast<unsigned>(std::min((n + kThreadsOfBlock - 1) / kThreadsOfBlock, kMostBlocks));
  cudaGetLastError();  // what somebody else has left there
  add_pairs<<<blocks, kThreadsOfBlock, 0, to>>>(ids, n, oods, m, there);
  OOD_CUDA_CALL(cudaGetLastError);
  queue.copy_out(counts, there, sizeof counts);
  queue.wait();
  return {counts[0], counts[1], counts[2]};
}

}  // namespace ood::kernels
