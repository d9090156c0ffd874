#include "kernels/cuda/runtime.h"

#include <fmt/format.h>
#include <pthread.h>

#include <atomic>

#include "ood/devices.h"

namespace ood::kernels {

namespace {

std::atomic<bool> forked = false;

void expect_forks() {
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, [] { forked = true; });
}

}  // namespace

void check_cuda(cudaError_t result, const char* call) {
  if (result == cudaSuccess) return;
  int device = 0;
  cudaGetDevice(&device);
  cudaGetLastError();  // so that no later call finds it; an error of the device stays for all of them
  throw DeviceError(fmt::format("cuda:{}: {}: {}", device, call, cudaGetErrorString(result)));
}

bool forked_after_cuda() { return forked; }

int count_devices(std::string* why) {
  if (forked) {
    if (why) *why = kForked;
    return 0;
  }
  int count = 0;
  const cudaError_t result = cudaGetDeviceCount(&count);
  if (result == cudaSuccess && count > 0) {
    expect_forks();
    return count;
  }
  cudaGetLastError();
  if (why) *why = cudaGetErrorString(result == cudaSuccess ? cudaErrorNoDevice : result);
  return 0;
}

OnDevice::OnDevice(int index) : index_(index) {
  if (forked) throw DeviceError(fmt::format("cuda:{}: {}", index, kForked));
  OOD_CUDA_CALL(cudaGetDevice, &before_);
  if (index_ != before_) OOD_CUDA_CALL(cudaSetDevice, index_);
}

OnDevice::~OnDevice() {
  if (index_ != before_ && cudaSetDevice(before_) != cudaSuccess) cudaGetLastError();
}

}  // namespace ood::kernels
