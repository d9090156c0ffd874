#include "kernels/bodies/margins.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_MARGIN_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
