/// Float32 rows as bfloat16 ones: float32 without the last 16 bits of the significand.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ood::kernels {

/// out_i = the d entries of x_i in bfloat16, rounded to nearest, ties to even; NaN stays NaN. x [rows,
/// cols] `stride` floats apart, out rows `out_stride` entries apart.
void to_bfloat16(const float* x, std::size_t stride, std::size_t rows, std::size_t cols,
                 std::uint16_t* out, std::size_t out_stride);

/// x = high + low + rest: high is x in bfloat16, low is x - high in bfloat16, |low| <= 2^-8 |x|, |rest| <= 2^-17 |x| where
/// nothing underflows. Infinity, and what rounds to it, has low = NaN or infinity. Written to two places, of
/// rows `out_stride` entries apart both.
void split_bfloat16(const float* x, std::size_t stride, std::size_t rows, std::size_t cols,
                    std::uint16_t* high, std::uint16_t* low, std::size_t out_stride);

}  // namespace ood::kernels
