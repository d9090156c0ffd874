#pragma once

#include <string_view>

namespace ood::kernels {

/// Keeps products to instruction sets that the SIMD target has. Has an effect only before the first
/// product of the process.
void limit_matmul_isa(std::string_view simd_target);

}  // namespace ood::kernels
