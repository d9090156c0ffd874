#include <doctest/doctest.h>

#include "kernels/reference.h"
#include "kernels/row_kernel_contract.h"

using namespace ood;
using namespace ood::test;

namespace {

using Row = std::span<const float>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The same for every tile of a width; every seventh term is not there.
std::vector<float> offsets(Index cols) {
  Random random(11);
  std::vector<float> offset(static_cast<std::size_t>(cols));
  for (std::size_t j = 0; j < offset.size(); ++j)
    offset[j] = j % 7 == 6 ? -kInfinity : normal(random, 5);
  return offset;
}

RowKernel max_affine(float scale) {
  return [scale](const MatrixView& dots, std::span<float> out) {
    kernels::row_max_affine(dots, scale, offsets(dots.cols()), out);
  };
}

RowKernel log_sum_exp_affine(float scale) {
  return [scale](const MatrixView& dots, std::span<float> out) {
    const std::vector<float> scales(static_cast<std::size_t>(dots.rows()), scale);
    kernels::row_log_sum_exp_affine(dots, scales, offsets(dots.cols()), out);
  };
}

/// scale dots + offset in float64, and |scale dots| + |offset|, which is what its error depends on.
struct Affine {
  std::vector<double> values, magnitudes;

  Affine(Row dots, double scale) {
    const auto offset = offsets(static_cast<Index>(dots.size()));
    for (std::size_t j = 0; j < dots.size(); ++j) {
      if (offset[j] == -kInfinity) continue;
      values.push_back(scale * dots[j] + offset[j]);
      magnitudes.push_back(std::abs(scale * dots[j]) + std::abs(static_cast<double>(offset[j])));
    }
  }
};

/// Running log-sum-exp of columns, by way of column_log_sum_exp over tiles.
struct ColumnSums {
  std::vector<double> max, sum, squares;

  explicit ColumnSums(Index cols)
      : max(static_cast<std::size_t>(cols), -std::numeric_limits<double>::infinity()),
        sum(static_cast<std::size_t>(cols), 0),
        squares(static_cast<std::size_t>(cols), 0) {}

  void add(const MatrixView& dots, Row scale, Row shift, Index begin, Index count) {
    const auto first = static_cast<std::size_t>(begin), rows = static_cast<std::size_t>(count);
    kernels::column_log_sum_exp(dots.middle_rows(begin, count), scale.subspan(first, rows),
                                shift.subspan(first, rows), max, sum, squares);
  }
  double value(std::size_t j) const { return max[j] + std::log(sum[j]); }
  double square_value(std::size_t j) const { return 2 * max[j] + std::log(squares[j]); }
};

struct Tile {
  Matrix dots;
  std::vector<float> scale, shift;

  /// Exponents scale dots + shift of about the given size.
  Tile(Index rows, Index cols, float size, std::uint32_t seed)
      : dots(normal_rows(rows, cols, seed)) {
    Random random(seed + 1);
    for (Index i = 0; i < rows; ++i) {
      scale.push_back(size * uniform(random, 0.5, 1.5));
      shift.push_back(normal(random, size));
    }
  }

  /// log sum_i exp(power e_ij), power 1 or 2; float32 sums of up to tile_rows terms, and the
  /// rounding of e.
  Expected expected(Index column, Index tile_rows, int power) const {
    std::vector<double> e;
    double magnitude = 0, largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (Index i = 0; i < dots.rows(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double product = static_cast<double>(scale[at]) * dots(i, column);
      e.push_back(product + shift[at]);
      largest = std::max(largest, e.back());
      magnitude = std::max(magnitude, std::abs(product) + std::abs(shift[at]));
    }
    for (const double v : e) sum += std::exp(power * (v - largest));
    const auto terms = static_cast<double>(std::min(tile_rows, dots.rows()));
    return {power * largest + std::log(sum), power * kUnit * (terms + 8 + 4 * magnitude)};
  }
};

/// Largest error, as a share of the allowed one, of the columns of `tile` added in cuts of `rows`.
double worst_of_cut(const Tile& tile, Index rows, bool backwards = false) {
  const PlacedRows dots(tile.dots, 1, 3);
  ColumnSums sums(tile.dots.cols());
  const Index cuts = (tile.dots.rows() + rows - 1) / rows;
  for (Index c = 0; c < cuts; ++c) {
    const Index begin = (backwards ? cuts - 1 - c : c) * rows;
    sums.add(dots.view(), tile.scale, tile.shift, begin, std::min(rows, tile.dots.rows() - begin));
  }
  double worst = 0;
  for (Index j = 0; j < tile.dots.cols(); ++j) {
    const auto at = static_cast<std::size_t>(j);
    worst = std::max({worst, share_of_allowed(sums.value(at), tile.expected(j, rows, 1)),
                      share_of_allowed(sums.square_value(at), tile.expected(j, rows, 2))});
  }
  return worst;
}

}  // namespace

TEST_CASE("row_max_affine: every row on its own") {
  check_depends_on_row_alone(max_affine(0.7f));
  check_not_a_number(max_affine(0.7f));
  check_no_rows(max_affine(0.7f));
}

TEST_CASE("row_max_affine: error") {
  for (const float scale : {1.0f, 0.7f, -0.5f}) {
    CAPTURE(scale);
    check_error(max_affine(scale), kLogitPatterns, [scale](Row dots) {
      const Affine terms(dots, scale);
      const double value = *std::ranges::max_element(terms.values);
      double error = 0;  // of whatever may win
      for (std::size_t j = 0; j < terms.values.size(); ++j) {
        const double own = 2 * kUnit * terms.magnitudes[j];
        if (terms.values[j] + own >= value) error = std::max(error, own);
      }
      return Expected{value, error};
    });
  }
}

TEST_CASE("row_log_sum_exp_affine: every row on its own") {
  check_depends_on_row_alone(log_sum_exp_affine(0.7f));
  check_not_a_number(log_sum_exp_affine(0.7f));
  check_no_rows(log_sum_exp_affine(0.7f));
}

TEST_CASE("row_log_sum_exp_affine: error") {
  for (const float scale : {1.0f, 0.7f, -0.5f}) {
    CAPTURE(scale);
    check_error(log_sum_exp_affine(scale), kLogitPatterns, [scale](Row dots) {
      const Affine terms(dots, scale);
      const double largest = *std::ranges::max_element(terms.values);
      double sum = 0;
      for (const double v : terms.values) sum += std::exp(v - largest);
      const double magnitude = *std::ranges::max_element(terms.magnitudes);
      return Expected{largest + std::log(sum),
                      kUnit * (static_cast<double>(dots.size()) + 8 + 4 * magnitude)};
    });
  }
}

TEST_CASE("row_log_sum_exp_affine: a scale for each row") {
  const Matrix dots = normal_rows(9, 37, 12, 3);
  std::vector<float> scale, out(9);
  for (int i = 0; i < 9; ++i) scale.push_back(static_cast<float>(i - 2) / 3);
  kernels::row_log_sum_exp_affine(dots, scale, offsets(37), out);
  for (std::size_t i = 0; i < 9; ++i)
    CHECK(same_bits(out[i], run(log_sum_exp_affine(scale[i]), dots)[i]));
}

TEST_CASE("affine rows: terms that are not there") {
  for (const Index m : {1, 3, 16, 17, 40}) {
    Matrix dots = normal_rows(3, m, 13);
    dots(2, m - 1) = std::nanf("");
    const std::vector<float> none(static_cast<std::size_t>(m), -kInfinity), scale(3, 2.0f);
    std::vector<float> out(3);
    kernels::row_max_affine(dots, 2, none, out);
    CHECK(out[0] == -kInfinity);
    CHECK(std::isnan(out[2]));
    kernels::row_log_sum_exp_affine(dots, scale, none, out);
    CHECK(out[0] == -kInfinity);
    CHECK(std::isnan(out[2]));

    auto one = none;
    one.back() = 0.5f;
    kernels::row_max_affine(dots, 2, one, out);
    CHECK(out[1] == doctest::Approx(2 * dots(1, m - 1) + 0.5f));
    kernels::row_log_sum_exp_affine(dots, scale, one, out);
    CHECK(out[1] == doctest::Approx(2 * dots(1, m - 1) + 0.5f));
    CHECK(std::isnan(out[2]));
  }
}

TEST_CASE(
    "row_log_sum_exp_affine: exponents whose rounding is larger than any logarithm of a sum") {
  for (const Index cols : {1, 3, 16, 19, 100}) {
    const Matrix dots = normal_rows(40, cols, 21);
    const std::vector<float> scale(40, 0.7e18f), offset(static_cast<std::size_t>(cols), 0.3e18f);
    std::vector<float> out(40), max(40);
    kernels::row_log_sum_exp_affine(dots, scale, offset, out);
    kernels::row_max_affine(dots, scale[0], offset, max);
    CHECK(out == max);
  }
}

TEST_CASE("column_log_sum_exp: error, however rows are cut into tiles") {
  for (const Index cols : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 100, 342})
    for (const float size : {0.1f, 1.0f, 30.0f, 1e4f}) {
      const Tile tile(150, cols, size, 14);
      CAPTURE(cols);
      CAPTURE(size);
      for (const Index rows : {1, 7, 64, 128, 150}) CHECK(worst_of_cut(tile, rows) <= 1);
      CHECK(worst_of_cut(tile, 64, true) <= 1);
    }
}

TEST_CASE("column_log_sum_exp: terms too small for a sum one by one") {
  Tile tile(1000, 5, 0, 15);
  for (std::size_t i = 0; i < 1000; ++i) tile.shift[i] = i == 0 ? 0.0f : -16.7f;
  for (const Index rows : {1, 128, 1000}) {
    CAPTURE(rows);
    CHECK(worst_of_cut(tile, rows) <= 1);
  }
}

TEST_CASE("column_log_sum_exp: no rows change nothing, no other column either") {
  const Tile tile(20, 19, 1, 16);
  ColumnSums sums(19), before(19);
  sums.add(tile.dots, tile.scale, tile.shift, 0, 20);
  before = sums;
  sums.add(tile.dots, tile.scale, tile.shift, 0, 0);
  CHECK(sums.max == before.max);
  CHECK(sums.sum == before.sum);
  CHECK(sums.squares == before.squares);
  kernels::column_log_sum_exp(MatrixView(nullptr, 0, 0), {}, {}, {}, {}, {});
}

TEST_CASE("column_log_sum_exp: what is not a number stays in its column") {
  for (const Index cols : {1, 5, 16, 19})
    for (const float bad : {std::nanf(""), kInfinity, -kInfinity})
      for (const Index row : {0, 10, 29}) {
        const Tile clean(30, cols, 1, 17);
        Tile tile = clean;
        tile.dots(row, cols / 2) = bad;
        ColumnSums sums(cols), expected(cols);
        for (const Index begin : {0, 10, 20}) {
          sums.add(tile.dots, tile.scale, tile.shift, begin, 10);
          expected.add(clean.dots, clean.scale, clean.shift, begin, 10);
        }
        for (std::size_t j = 0; j < static_cast<std::size_t>(cols); ++j)
          if (static_cast<Index>(j) == cols / 2) {
            CHECK(std::isnan(sums.value(j)));
            CHECK(std::isnan(sums.square_value(j)));
          } else {
            CHECK(sums.value(j) == expected.value(j));
            CHECK(sums.square_value(j) == expected.square_value(j));
          }
      }
}

TEST_CASE("epilogues: wrong sizes") {
  const Matrix dots(2, 3);
  std::vector<float> two(2), three(3);
  std::vector<double> two_sums(2), three_sums(3);
  CHECK_THROWS_WITH_AS(kernels::row_max_affine(dots, 1, three, three),
                       "row_max_affine: out has 3 entries, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_max_affine(dots, 1, two, two),
                       "row_max_affine: offset has 2 entries, expected 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_log_sum_exp_affine(dots, three, three, two),
                       "row_log_sum_exp_affine: scale has 3 entries, expected 2",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_log_sum_exp_affine(dots, two, two, two),
                       "row_log_sum_exp_affine: offset has 2 entries, expected 3",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      kernels::column_log_sum_exp(dots, three, two, three_sums, three_sums, three_sums),
      "column_log_sum_exp: scale has 3 entries, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      kernels::column_log_sum_exp(dots, two, three, three_sums, three_sums, three_sums),
      "column_log_sum_exp: shift has 3 entries, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      kernels::column_log_sum_exp(dots, two, two, two_sums, three_sums, three_sums),
      "column_log_sum_exp: max has 2 entries, expected 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      kernels::column_log_sum_exp(dots, two, two, three_sums, two_sums, three_sums),
      "column_log_sum_exp: sum has 2 entries, expected 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      kernels::column_log_sum_exp(dots, two, two, three_sums, three_sums, two_sums),
      "column_log_sum_exp: squares has 2 entries, expected 3", std::invalid_argument);
}

TEST_CASE(
    "row_argmax_affine: the first place of the maximum, 0 for a row that holds NaN or infinity") {
  for (const Index n : {1, 3, 8, 15, 16, 17, 33, 100}) {
    CAPTURE(n);
    Matrix dots = Matrix::Zero(4, n);
    const std::vector<float> offset(static_cast<std::size_t>(n), 0.0f);
    std::vector<Index> place(4);
    for (Index j = 0; j < n; ++j) {
      dots.setZero();
      dots(0, j) = 2;
      dots(1, j) = dots(1, n - 1) = 3;  // a tie: the first wins
      dots(2, j) = std::numeric_limits<float>::quiet_NaN();
      dots(3, j) = -1;
      kernels::row_argmax_affine(dots, 0.5f, offset, place);
      CHECK(place[0] == j);
      CHECK(place[1] == j);
      CHECK(place[2] == 0);
      CHECK(place[3] == (j == 0 && n > 1 ? 1 : 0));
    }
  }
}

TEST_CASE("row_argmax_affine: the place of the maximum where products and sums are rounded") {
  for (const Index n : {3, 16, 33, 100}) {
    const Matrix dots = normal_rows(200, n, 22), offsets = normal_rows(1, n, 23);
    const std::vector<float> offset(offsets.data(), offsets.data() + n);
    std::vector<Index> place(200);
    kernels::row_argmax_affine(dots, 0.7f, offset, place);
    for (Index i = 0; i < 200; ++i) {
      // in float64 no other entry is larger by more than the rounding of one
      const auto value = [&](Index j) {
        return static_cast<double>(0.7f) * dots(i, j) + offset[static_cast<std::size_t>(j)];
      };
      for (Index j = 0; j < n; ++j)
        CHECK(value(j) <= value(place[static_cast<std::size_t>(i)]) + 1e-5);
    }
  }
}

namespace {

/// The cosines of a row added up, so that what holds for every kernel of rows can be checked.
RowKernel cosine_sum(float scale) {
  return [scale](const MatrixView& dots, std::span<float> out) {
    std::vector<float> offset(static_cast<std::size_t>(dots.cols()));
    Random random(12);
    for (float& v : offset) v = normal(random, 3);
    Matrix cosines;
    kernels::cosines(dots, offset, scale, cosines);
    std::ranges::fill(out, 0.0f);
    for (Index i = 0; i < dots.rows(); ++i)
      for (Index j = 0; j < dots.cols(); ++j) out[static_cast<std::size_t>(i)] += cosines(i, j);
  };
}

}  // namespace

TEST_CASE("cosines: every row on its own") {
  check_depends_on_row_alone(cosine_sum(0.5f));
  check_not_a_number(cosine_sum(0.5f));
  check_no_rows(cosine_sum(0.5f));
}

TEST_CASE("cosines: error") {
  double worst = 0;
  for (const float size : {0.01f, 1.0f, 10.0f, 1000.0f, 9000.0f})
    for (const Index d : kLengths) {
      const Matrix dots = normal_rows(3, d, 4, size);
      std::vector<float> offset(static_cast<std::size_t>(d));
      Random random(5);
      for (float& v : offset) v = uniform(random, 0, 6.2831f);
      Matrix out;
      kernels::cosines(PlacedRows(dots, 1, 3).view(), offset, 0.125f, out);
      REQUIRE(out.rows() == 3);
      REQUIRE(out.cols() == d);
      for (Index i = 0; i < 3; ++i)
        for (Index j = 0; j < d; ++j) {
          const double angle =
              static_cast<double>(dots(i, j)) + offset[static_cast<std::size_t>(j)];
          if (std::abs(angle) > 38000) continue;
          worst = std::max(
              worst, share_of_allowed(out(i, j), {0.125 * std::cos(angle),
                                                  0.125 * kUnit * (2 * std::abs(angle) + 16)}));
        }
    }
  MESSAGE("largest error is ", worst, " of what is allowed");
  CHECK(worst <= 1);
}

TEST_CASE("cosines: no number where float32 has no angle left, and wrong sizes are errors") {
  Matrix dots(1, 4), out;
  dots << 38999, -38999, 39001, -1e30f;
  kernels::cosines(dots, std::vector<float>(4, 0.0f), 1, out);
  CHECK(out(0, 0) == doctest::Approx(std::cos(38999.0)).epsilon(1e-2));
  CHECK(out(0, 1) == out(0, 0));
  CHECK(std::isnan(out(0, 2)));
  CHECK(std::isnan(out(0, 3)));
  CHECK_THROWS_WITH_AS(kernels::cosines(dots, std::vector<float>(3), 1, out),
                       "cosines: offset has 3 entries, expected 4", std::invalid_argument);
}
