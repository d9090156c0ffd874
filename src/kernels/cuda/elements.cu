#include "kernels/bodies/elements.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_ELEMENT_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
