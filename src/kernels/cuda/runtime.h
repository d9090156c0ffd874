/// The CUDA runtime with its errors as exceptions. For src/kernels/cuda/ alone.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

namespace ood::kernels {

/// Throws DeviceError `cuda:0: <call>: <text of the error>`, with the current device.
void check_cuda(cudaError_t result, const char* call);
#define OOD_CUDA_CALL(call, ...) ::ood::kernels::check_cuda(call(__VA_ARGS__), #call)

/// Whether this is a child that was forked after its parent had used CUDA, which works no more then.
bool forked_after_cuda();
inline constexpr const char* kForked =
    "this process was forked from one that had used CUDA; start it anew instead (multiprocessing: "
    "spawn)";

/// The number of devices; if 0, `why` says why. Starts the driver.
int count_devices(std::string* why = nullptr);

/// While it lives, `index` is the calling thread's current device. Throws DeviceError in a child of a
/// process that had used CUDA.
class OnDevice {
 public:
  explicit OnDevice(int index);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int index_, before_ = 0;
};

}  // namespace ood::kernels
