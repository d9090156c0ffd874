/// What holds for every kernel that maps a row to a number.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/error_bounds.h"
#include "kernels/placed_rows.h"
#include "kernels/row_patterns.h"

namespace ood::test {

using RowKernel = std::function<void(const MatrixView& x, std::span<float> out)>;

inline std::vector<float> run(const RowKernel& kernel, const MatrixView& x) {
  std::vector<float> out(static_cast<std::size_t>(x.rows()));
  kernel(x, out);
  return out;
}

inline bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// The same bits for a row alone, in a batch, at another place of it, at any address, at any
/// stride.
inline void check_depends_on_row_alone(const RowKernel& kernel) {
  for (const Index d : kLengths) {
    const Matrix rows = normal_rows(5, d, 1, 3), reversed = rows.colwise().reverse();
    std::vector<float> alone;
    for (Index i = 0; i < rows.rows(); ++i) {
      const Matrix row = rows.row(i);
      alone.push_back(run(kernel, PlacedRows(row, 0, 0).view())[0]);
    }
    int different = 0;
    for (const Index offset : {0, 1, 2, 3})
      for (const Index gap : {0, 1, 3, 16}) {
        const auto forward = run(kernel, PlacedRows(rows, offset, gap).view());
        const auto backward = run(kernel, PlacedRows(reversed, offset, gap).view());
        for (std::size_t i = 0; i < 5; ++i)
          different += !same_bits(forward[i], alone[i]) + !same_bits(backward[4 - i], alone[i]);
      }
    CAPTURE(d);
    CHECK(different == 0);
  }
}

/// NaN or infinity in a row makes its result NaN, wherever it is, and changes no other row.
inline void check_not_a_number(const RowKernel& kernel) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    int numbers = 0, others_changed = 0;
    for (const Index d : {1, 2, 3, 5, 16, 17, 19, 33, 64, 100}) {
      const Matrix clean = normal_rows(3, d, 2);
      const auto expected = run(kernel, clean);
      for (const Index column : {Index{0}, d / 2, (d - 1) / 16 * 16, (d - 1) / 4 * 4, d - 1}) {
        Matrix x = clean;
        x(1, column) = bad;
        const auto out = run(kernel, PlacedRows(x, 1, 1).view());
        numbers += !std::isnan(out[1]);
        others_changed += !same_bits(out[0], expected[0]) + !same_bits(out[2], expected[2]);
      }
    }
    CAPTURE(bad);
    CHECK(numbers == 0);
    CHECK(others_changed == 0);
  }
}

inline void check_no_rows(const RowKernel& kernel) {
  CHECK_NOTHROW(kernel(MatrixView(nullptr, 0, 7), {}));
  CHECK_NOTHROW(kernel(MatrixView(), {}));
}

/// Compares with a float64 reference on each pattern and length. `--success` shows the largest
/// error as a share of the allowed one.
inline void check_error(const RowKernel& kernel, const std::vector<Pattern>& patterns,
                        const std::function<Expected(std::span<const float> row)>& reference) {
  Random random(3);
  for (const Pattern& pattern : patterns) {
    double worst = 0;
    std::string where = "exact";
    for (const Index d : kLengths) {
      Matrix x(3, d);
      const auto length = static_cast<std::size_t>(d);
      for (Index i = 0; i < x.rows(); ++i) pattern.fill(random, {x.data() + i * d, length});
      const auto out = run(kernel, PlacedRows(x, 1, 2).view());
      for (Index i = 0; i < x.rows(); ++i) {
        const Expected expected = reference({x.data() + i * d, length});
        const float got = out[static_cast<std::size_t>(i)];
        const double share = share_of_allowed(got, expected);
        if (share <= worst) continue;
        worst = share;
        where = fmt::format("length {}: got {}, expected {} +- {}", d, got, expected.value,
                            expected.error);
      }
    }
    CAPTURE(pattern.name);
    CAPTURE(where);
    CHECK(worst <= 1);
  }
}

}  // namespace ood::test
