/// A device that is the processor, as strict as a GPU: for tests where there is none.
#pragma once

#include "kernels/device.h"

namespace ood::test {

/// While it lives, Device::Kind::cuda is an emulated device, for all threads.
///
/// Its memory cannot be touched but by what is given to a queue, and that is done as late as possible, when
/// somebody waits: what is used without waiting, or from the wrong side, ends in a crash. A body that holds a
/// pointer into other memory is an error, and so is fitted state that changed after it was copied.
class EmulatedDevice {
 public:
  /// As many bytes as the device has.
  explicit EmulatedDevice(std::size_t memory = std::size_t{4} << 30);
  ~EmulatedDevice();
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;

  /// The most bytes that were taken at one time.
  static std::size_t peak();
};

/// The device of tests that a GPU passes too: an emulated one, but nullptr where the environment variable
/// OOD_DEVICE is "cuda".
std::unique_ptr<EmulatedDevice> device_to_test();

/// A queue of the emulated device; one is needed.
std::unique_ptr<kernels::DeviceQueue> open_emulated_queue(int index);

/// While it lives, kernels of the calling thread run as on a GPU, lanes and all, but in host memory and at
/// once: so tests of kernels are tests of both.
class KernelsAsOnDevice {
 public:
  KernelsAsOnDevice();
  ~KernelsAsOnDevice();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace ood::test
