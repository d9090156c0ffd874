#include "ood/devices.h"

#include <fmt/format.h>
#include <unistd.h>

#include "kernels/cuda/runtime.h"

namespace ood::cuda {

bool built() { return true; }

std::string description() {
  int version = 0;
  cudaRuntimeGetVersion(&version);
  std::string why;
  const int count = kernels::count_devices(&why);
  const std::string found = count == 0   ? "no device: " + why
                            : count == 1 ? "1 device"
                                         : fmt::format("{} devices", count);
  return fmt::format("CUDA {}.{}, {}", version / 1000, version % 1000 / 10, found);
}

std::vector<DeviceInfo> devices() {
  std::vector<DeviceInfo> all;
  const int count = kernels::count_devices();
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    OOD_CUDA_CALL(cudaGetDeviceProperties, &properties, i);
    DeviceInfo info{{Device::Kind::cuda, i},
                    properties.name,
                    10 * properties.major + properties.minor,
                    properties.totalGlobalMem,
                    0};
    try {
      const kernels::OnDevice on(i);
      std::size_t total = 0;
      OOD_CUDA_CALL(cudaMemGetInfo, &info.free, &total);
    } catch (const DeviceError&) {  // somebody has it alone: 0 for us
      info.free = 0;
    }
    all.push_back(std::move(info));
  }
  return all;
}

bool may_be_there() {
  static const bool there =
      access("/dev/nvidiactl", R_OK | W_OK) == 0 || access("/dev/dxg", R_OK | W_OK) == 0;
  return there;
}

}  // namespace ood::cuda
