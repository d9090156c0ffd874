#include "kernels/bfloat16.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/placed_rows.h"
#include "kernels/row_patterns.h"

using namespace ood;
using namespace ood::test;

namespace {

/// The nearest number of 8 significant bits, ties to even, none smaller than 2^-133: by float64, which holds
/// all of them.
double nearest(double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), -126);
  const double unit = std::ldexp(1.0, exponent - 7);
  const double rounded = std::nearbyint(x / unit) * unit;
  return std::abs(rounded) < 0x1p128 ? rounded
                                     : std::copysign(std::numeric_limits<double>::infinity(), x);
}

/// What 16 bits stand for.
float value(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Numbers of every exponent and sign, in between two of bfloat16 and around the middle of them.
Matrix all_kinds() {
  std::vector<float> numbers;
  for (std::uint32_t top = 0; top < 0x10000; top += 5)  // sign, exponent, 7 bits
    for (const std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      if (const float x = std::bit_cast<float>(top << 16 | low); std::isfinite(x))
        numbers.push_back(x);
  const auto count = std::ssize(numbers);
  return Eigen::Map<const Matrix>(numbers.data(), 1, count);
}

using Bits = std::vector<std::uint16_t>;

Bits rounded(const MatrixView& x, std::size_t stride) {
  Bits out(static_cast<std::size_t>(x.rows()) * stride, 0x1234);
  kernels::to_bfloat16(x.data(), static_cast<std::size_t>(x.outerStride()),
                       static_cast<std::size_t>(x.rows()), static_cast<std::size_t>(x.cols()),
                       out.data(), stride);
  return out;
}

struct Split {
  Bits high, low;
};
Split split(const MatrixView& x, std::size_t stride) {
  const std::size_t size = static_cast<std::size_t>(x.rows()) * stride;
  Split out = {Bits(size, 0x1234), Bits(size, 0x1234)};
  kernels::split_bfloat16(x.data(), static_cast<std::size_t>(x.outerStride()),
                          static_cast<std::size_t>(x.rows()), static_cast<std::size_t>(x.cols()),
                          out.high.data(), out.low.data(), stride);
  return out;
}

}  // namespace

TEST_CASE("to_bfloat16: the nearest, ties to even, in every exponent") {
  const Matrix x = all_kinds();
  const Bits out = rounded(x, static_cast<std::size_t>(x.cols()));
  Index wrong = 0;
  for (Index j = 0; j < x.cols(); ++j) {
    const double got = value(out[static_cast<std::size_t>(j)]), want = nearest(x(0, j));
    wrong += got != want || std::signbit(got) != std::signbit(want);
  }
  CHECK(wrong == 0);
  CHECK(x.cols() > 70000);
}

TEST_CASE("to_bfloat16: NaN stays NaN, infinity infinity") {
  const float infinity = std::numeric_limits<float>::infinity();
  // the payload in what is cut off, in what would carry over, and in what stays
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xffffffffu, 0xff80ffffu, 0x7fc00000u})
    for (const Index length : {1, 5, 16, 19}) {
      Matrix x = Matrix::Ones(1, length);
      x(0, length - 1) = std::bit_cast<float>(bits);
      const Bits out = rounded(x, static_cast<std::size_t>(length));
      CHECK(std::isnan(value(out.back())));
      if (length > 1) CHECK(value(out.front()) == 1.0f);
    }
  const Matrix x{{infinity, -infinity, std::numeric_limits<float>::max(), 3.3e38f}};
  const Bits out = rounded(x, 4);
  CHECK(value(out[0]) == infinity);
  CHECK(value(out[1]) == -infinity);
  CHECK(value(out[2]) == infinity);
  CHECK(value(out[3]) == static_cast<float>(nearest(3.3e38f)));
}

TEST_CASE("split_bfloat16: the first part is the nearest, the second the nearest of what is left") {
  const Matrix x = all_kinds();
  const Split out = split(x, static_cast<std::size_t>(x.cols()));
  Index wrong = 0;
  double worst = 0;
  for (Index j = 0; j < x.cols(); ++j) {
    const double want = nearest(x(0, j)), high = value(out.high[static_cast<std::size_t>(j)]),
                 low = value(out.low[static_cast<std::size_t>(j)]);
    if (!std::isfinite(want)) {
      wrong += high != want || std::isfinite(low);
      continue;
    }
    wrong += high != want || low != nearest(static_cast<double>(x(0, j)) - want);
    if (std::abs(x(0, j)) > 0x1p-110f)
      worst = std::max(worst, std::abs(static_cast<double>(x(0, j)) - high - low) /
                                  std::abs(static_cast<double>(x(0, j))));
  }
  CHECK(wrong == 0);
  CHECK(worst <= 0x1p-17);
}

TEST_CASE("to_bfloat16, split_bfloat16: rows of any length, place and distance") {
  for (const Index length : kLengths)
    for (const Index gap : {0, 3}) {
      const Matrix x = normal_rows(3, length, 61);
      const PlacedRows placed(x, 1, gap);
      const auto stride = static_cast<std::size_t>(length) + 2;
      const Bits out = rounded(placed.view(), stride);
      const Split parts = split(placed.view(), stride);
      Index wrong = 0;
      for (Index i = 0; i < x.rows(); ++i)
        for (std::size_t j = 0; j < stride; ++j) {
          const std::size_t at = static_cast<std::size_t>(i) * stride + j;
          if (j < static_cast<std::size_t>(length)) {
            const double entry = x(i, static_cast<Index>(j)), want = nearest(entry);
            wrong += value(out[at]) != want || value(parts.high[at]) != want ||
                     value(parts.low[at]) != nearest(entry - want);
          } else {  // not ours
            wrong += out[at] != 0x1234 || parts.high[at] != 0x1234 || parts.low[at] != 0x1234;
          }
        }
      CAPTURE(length);
      CHECK(wrong == 0);
    }
}
