/// Which instruction set the kernels use.
#pragma once

namespace ood::kernels {

/// Applies OOD_SIMD on the first call; every kernel calls it before it dispatches.
/// Throws std::invalid_argument if OOD_SIMD names no target of this machine.
void ensure_simd_target();

}  // namespace ood::kernels
