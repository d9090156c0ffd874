/// What a GPU can do at best, by code that is not ours. Calls return when the work is done.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ood/matrix.h"

namespace ood::bench {

/// Memory of the GPU, without values.
class GpuMemory {
 public:
  explicit GpuMemory(std::size_t bytes);
  ~GpuMemory();
  GpuMemory(const GpuMemory&) = delete;
  GpuMemory& operator=(const GpuMemory&) = delete;
  float* floats() const { return static_cast<float*>(data_); }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

void fill_from_host(void* to, const void* from, std::size_t bytes);
void gpu_copy(void* to, const void* from, std::size_t bytes);
void wait_for_gpu();

/// From pinned memory, which is made for it.
class PinnedCopy {
 public:
  explicit PinnedCopy(std::size_t bytes);
  ~PinnedCopy();
  PinnedCopy(const PinnedCopy&) = delete;
  PinnedCopy& operator=(const PinnedCopy&) = delete;
  void to(void* gpu) const;

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

/// out [n, m] = x [n, d] by b [m, d] transposed, by cublasSgemm. Does not wait.
class GpuProduct {
 public:
  /// Of float32 factors, or of those rounded to tf32.
  explicit GpuProduct(bool tf32 = false);
  ~GpuProduct();
  GpuProduct(const GpuProduct&) = delete;
  GpuProduct& operator=(const GpuProduct&) = delete;
  void operator()(const float* x, Index n, const float* b, Index m, Index d, float* out) const;

 private:
  void* handle_ = nullptr;
};

/// Sorts n 32-bit keys with cub::DeviceRadixSort; `room` has radix_sort_bytes(n).
std::size_t radix_sort_bytes(Index n);
void radix_sort(void* room, std::size_t bytes, const std::uint32_t* keys, std::uint32_t* sorted,
                Index n);

}  // namespace ood::bench
