#include "kernels/bodies/shaping.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_SHAPING_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
