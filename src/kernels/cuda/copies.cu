#include "kernels/bodies/copies.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_COPY_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
