#include "kernels/bodies/epilogues.h"

#include "kernels/cuda/launch.cuh"

namespace ood::kernels {

OOD_EPILOGUE_BODIES(OOD_LAUNCH_ON_CUDA)

}  // namespace ood::kernels
