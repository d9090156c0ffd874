#include "kernels/bodies/nearest.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_NEAREST_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
