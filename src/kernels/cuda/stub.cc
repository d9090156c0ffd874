// What the library has in the place of src/kernels/cuda/*.cu where it is built without CUDA.
#include "kernels/bodies/lists.h"
#include "kernels/cuda/caller.h"
#include "ood/devices.h"

namespace ood {

namespace {

constexpr const char* kNotBuilt =
    "device: this libood was built without CUDA, expected one that was configured with "
    "-DOOD_CUDA=ON";

}  // namespace

namespace cuda {

bool built() { return false; }
std::string description() { return "not built"; }
std::vector<DeviceInfo> devices() { return {}; }
bool may_be_there() { return false; }

}  // namespace cuda

namespace kernels {

std::unique_ptr<DeviceQueue> open_cuda_queue(int) { throw DeviceError(kNotBuilt); }
std::shared_ptr<DeviceQueue> lend_cuda_queue(int, void*) { throw DeviceError(kNotBuilt); }
void require_memory_of(int, const char*, const void*) { throw DeviceError(kNotBuilt); }
ScorePairs count_pairs(DeviceQueue&, void*, const float*, Index, const float*, Index) {
  throw DeviceError(kNotBuilt);
}

template <class Body>
void launch_on_cuda(const Body&, Index, void*) {
  throw DeviceError(kNotBuilt);
}
#define OOD_STUB(body) \
  template void launch_on_cuda<bodies::body>(const bodies::body&, Index, void*);
OOD_ALL_BODIES(OOD_STUB)

}  // namespace kernels
}  // namespace ood
