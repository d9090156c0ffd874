/// The GPUs of this machine.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/exec.h"

namespace ood {

/// A device is not there, or fails.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Opens the device, before work that may take long and needs it in the end. Throws DeviceError if that cannot
/// be done.
void require_device(const Device& device);

struct DeviceInfo {
  Device device;
  std::string name;                  ///< "NVIDIA H100 80GB HBM3"
  int compute_capability = 0;        ///< 90 for 9.0
  std::size_t memory = 0, free = 0;  ///< bytes
};

namespace cuda {

/// Whether this library was built with CUDA (-DOOD_CUDA=ON).
bool built();
/// What there is to say of it in one line: "CUDA 13.0, 1 device", or why there is none.
std::string description();
/// All GPUs; none where the library was built without CUDA, or there is no driver.
std::vector<DeviceInfo> devices();
/// Whether devices() may have any, without starting the driver.
bool may_be_there();

}  // namespace cuda

}  // namespace ood
