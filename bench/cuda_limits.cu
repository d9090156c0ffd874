#include "cuda_limits.h"

#include <cublas_v2.h>

#include <cub/device/device_radix_sort.cuh>
#include <stdexcept>
#include <string>

namespace ood::bench {

namespace {

void check(cudaError_t result) {
  if (result != cudaSuccess) throw std::runtime_error(cudaGetErrorString(result));
}
void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw std::runtime_error(cublasGetStatusString(status));
}

}  // namespace

GpuMemory::GpuMemory(std::size_t bytes) { check(cudaMalloc(&data_, bytes)); }
GpuMemory::~GpuMemory() { cudaFree(data_); }

void fill_from_host(void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}
void gpu_copy(void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToDevice));
  wait_for_gpu();
}
void wait_for_gpu() { check(cudaDeviceSynchronize()); }

PinnedCopy::PinnedCopy(std::size_t bytes) : bytes_(bytes) { check(cudaMallocHost(&data_, bytes)); }
PinnedCopy::~PinnedCopy() { cudaFreeHost(data_); }
void PinnedCopy::to(void* gpu) const {
  check(cudaMemcpy(gpu, data_, bytes_, cudaMemcpyHostToDevice));
}

GpuProduct::GpuProduct(bool tf32) {
  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle));
  handle_ = handle;
  if (tf32) cublasSetMathMode(static_cast<cublasHandle_t>(handle_), CUBLAS_TF32_TENSOR_OP_MATH);
}
GpuProduct::~GpuProduct() { cublasDestroy(static_cast<cublasHandle_t>(handle_)); }
void GpuProduct::operator()(const float* x, Index n, const float* b, Index m, Index d,
                            float* out) const {
  const float one = 1, zero = 0;
  check(cublasSgemm_64(static_cast<cublasHandle_t>(handle_), CUBLAS_OP_T, CUBLAS_OP_N, m, n, d,
                       &one, b, d, x, d, &zero, out, m));
}

std::size_t radix_sort_bytes(Index n) {
  std::size_t bytes = 0;
  const std::uint32_t* keys = nullptr;
  std::uint32_t* sorted = nullptr;
  check(cub::DeviceRadixSort::SortKeys(nullptr, bytes, keys, sorted, n));
  return bytes;
}
void radix_sort(void* room, std::size_t bytes, const std::uint32_t* keys, std::uint32_t* sorted,
                Index n) {
  check(cub::DeviceRadixSort::SortKeys(room, bytes, keys, sorted, n));
  wait_for_gpu();
}

}  // namespace ood::bench
