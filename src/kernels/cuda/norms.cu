#include "kernels/bodies/norms.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_NORM_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
