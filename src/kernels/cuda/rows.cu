#include "kernels/bodies/rows.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_ROW_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
