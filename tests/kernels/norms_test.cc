#include <doctest/doctest.h>

#include "kernels/device.h"
#include "kernels/reference.h"
#include "kernels/row_kernel_contract.h"

using namespace ood;
using namespace ood::test;

namespace {

using Row = std::span<const float>;

RowKernel norm_of(double order) {
  return [order](const MatrixView& x, std::span<float> out) {
    Matrix norms;
    kernels::row_norms(x, std::array{order}, norms);
    REQUIRE(norms.rows() == x.rows());
    REQUIRE(norms.cols() == 1);
    std::ranges::copy(norms.reshaped(), out.begin());
  };
}

/// Row 1 of three that are the same for every x of a width.
Matrix others(Index cols) { return normal_rows(3, cols, 9); }

void dot_with_row_1(const MatrixView& x, std::span<float> out) {
  const std::vector<std::int64_t> labels(static_cast<std::size_t>(x.rows()), 1);
  kernels::row_dot_selected(x, PlacedRows(others(x.cols()), 1, 2).view(), labels, out);
}

void squared_distance_to_row_1(const MatrixView& x, std::span<float> out) {
  const std::vector<Index> rows(static_cast<std::size_t>(x.rows()), 1);
  kernels::row_squared_distance_selected(x, PlacedRows(others(x.cols()), 1, 2).view(), rows, out);
}

void absolute_distance_to_row_1(const MatrixView& x, std::span<float> out) {
  const std::vector<Index> rows(static_cast<std::size_t>(x.rows()), 1);
  kernels::row_absolute_distance_selected(x, PlacedRows(others(x.cols()), 1, 2).view(), rows, out);
}

/// The first and the last entry of each unit row.
void first_of_unit_row(const MatrixView& x, std::span<float> out) {
  Matrix unit;
  kernels::normalize_rows(x, unit);
  REQUIRE(unit.rows() == x.rows());
  REQUIRE(unit.cols() == x.cols());
  for (Index i = 0; i < x.rows(); ++i) out[static_cast<std::size_t>(i)] = unit(i, 0);
}
void last_of_unit_row(const MatrixView& x, std::span<float> out) {
  Matrix unit;
  kernels::normalize_rows(x, unit);
  for (Index i = 0; i < x.rows(); ++i) out[static_cast<std::size_t>(i)] = unit(i, x.cols() - 1);
}

/// How far the sum of d terms may be off, in u.
double sum_error(Row x) { return static_cast<double>(x.size()) / lanes() + 8; }

}  // namespace

TEST_CASE("row_norms: every row on its own") {
  for (const double order : {1.0, 2.0, 2.5}) {
    check_depends_on_row_alone(norm_of(order));
    check_not_a_number(norm_of(order));
    check_no_rows(norm_of(order));
  }
}

TEST_CASE("row_norms: error") {
  for (const double order : {0.1, 0.5, 1.0, 1.5, 5.0 / 3, 2.0, 2.5, 3.0, 10.0, 100.0, 1000.0}) {
    CAPTURE(order);
    check_error(norm_of(order), kFeaturePatterns, [order](Row x) {
      const double value = reference::norm(x, order);
      const double sum = sum_error(x) + 8 * std::log(static_cast<double>(x.size()));
      // what is above the largest number is infinite
      if (value > 0x1p128) return Expected{std::numeric_limits<double>::infinity(), 0};
      return Expected{value, kUnit * (4 + sum / order) * value + kUnderflow};
    });
  }
}

TEST_CASE("row_norms: several orders at once are the same as one by one") {
  const Matrix x = normal_rows(7, 37, 5);
  const std::array orders = {2.5, 2.0, 5.0 / 3, 1.0};
  Matrix together;
  kernels::row_norms(x, orders, together);
  REQUIRE(together.rows() == 7);
  REQUIRE(together.cols() == 4);
  for (std::size_t k = 0; k < orders.size(); ++k) {
    const auto one = run(norm_of(orders[k]), x);
    for (std::size_t i = 0; i < one.size(); ++i)
      CHECK(same_bits(one[i], together(static_cast<Index>(i), static_cast<Index>(k))));
  }
}

TEST_CASE("row_norms: any number of orders") {
  const Matrix x = normal_rows(4, 37, 6);
  std::vector<double> orders;
  for (int k = 1; k <= 17; ++k) orders.push_back(k / 3.0);
  for (const std::size_t count : {8u, 9u, 17u}) {
    Matrix norms;
    kernels::row_norms(x, std::span(orders).first(count), norms);
    for (std::size_t k = 0; k < count; ++k) {
      const auto one = run(norm_of(orders[k]), x);
      for (std::size_t i = 0; i < one.size(); ++i)
        CHECK(same_bits(one[i], norms(static_cast<Index>(i), static_cast<Index>(k))));
    }
  }
}

TEST_CASE("row_norms: nothing overflows on the way") {
  Matrix x(2, 3);
  x << 1e30f, 0, -1e30f, 1e-30f, 0, -1e-30f;
  for (const double order : {1.0, 2.0, 50.0}) {
    const auto out = run(norm_of(order), x);
    const double factor = std::pow(2, 1 / order);
    CHECK(out[0] / 1e30f == doctest::Approx(factor).epsilon(1e-6));
    CHECK(out[1] / 1e-30f == doctest::Approx(factor).epsilon(1e-6));
  }
}

TEST_CASE("row_norms: no orders, and orders that are none") {
  Matrix out;
  kernels::row_norms(normal_rows(3, 4, 1), {}, out);
  CHECK(out.rows() == 3);
  CHECK(out.cols() == 0);
  const Matrix x(2, 3);
  CHECK_THROWS_WITH_AS(kernels::row_norms(x, std::array{2.0, 0.0}, out),
                       "row_norms: order has 0, expected above 0", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_norms(x, std::array{-1.0}, out),
                       "row_norms: order has -1, expected above 0", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_norms(x, std::array{std::nan("")}, out),
                       "row_norms: order has nan, expected above 0", std::invalid_argument);
}

TEST_CASE("normalize_rows: every row on its own") {
  for (const auto& entry : {first_of_unit_row, last_of_unit_row}) {
    check_depends_on_row_alone(entry);
    check_not_a_number(entry);
    check_no_rows(entry);
  }
}

TEST_CASE("normalize_rows: error") {
  const auto check = [](const RowKernel& entry, bool first) {
    check_error(entry, kFeaturePatterns, [first](Row x) {
      const double norm = reference::norm(x, 2.0);
      const double value = norm > 0 ? (first ? x.front() : x.back()) / norm : 0.0;
      return Expected{value, kUnit * sum_error(x) * std::abs(value) + kUnderflow};
    });
  };
  check(first_of_unit_row, true);
  check(last_of_unit_row, false);
}

TEST_CASE("normalize_rows: zero stays zero, one entry becomes 1, nothing overflows on the way") {
  Matrix x(5, 19), out;
  x.setZero();
  x(1, 18) = 3.3f;
  x(2, 0) = -1e-42f;
  x.row(3).setConstant(std::numeric_limits<float>::max());
  x.row(4).setConstant(1e-44f);
  kernels::normalize_rows(x, out);
  CHECK(out.row(0).isZero(0));
  CHECK(out(1, 18) == 1);
  CHECK(out(2, 0) == -1);
  for (const Index row : {3, 4})
    for (Index j = 0; j < 19; ++j)
      CHECK(out(row, j) == doctest::Approx(1 / std::sqrt(19.0)).epsilon(1e-6));
}

TEST_CASE("row_dot_selected: every row on its own") {
  check_depends_on_row_alone(dot_with_row_1);
  check_not_a_number(dot_with_row_1);
  check_no_rows(dot_with_row_1);
}

TEST_CASE("row_dot_selected: error") {
  check_error(dot_with_row_1, kFeaturePatterns, [](Row x) {
    const Matrix b = others(static_cast<Index>(x.size()));
    const Row y(b.data() + b.cols(), x.size());
    return Expected{reference::dot(x, y), kUnit * sum_error(x) * reference::absolute_dot(x, y) +
                                              kUnderflow * static_cast<double>(x.size())};
  });
}

TEST_CASE("row_dot_selected: terms too small for a sum one by one") {
  const RowKernel with_ones = [](const MatrixView& x, std::span<float> out) {
    const Matrix ones = Matrix::Ones(1, x.cols());
    kernels::row_dot_selected(x, ones, std::vector<std::int64_t>(out.size(), 0), out);
  };
  check_error(with_ones, kFeaturePatterns, [](Row x) {
    const std::vector<float> ones(x.size(), 1);
    return Expected{reference::dot(x, ones),
                    kUnit * sum_error(x) * reference::absolute_dot(x, ones)};
  });
}

TEST_CASE("row_squared_distance_selected: every row on its own") {
  check_depends_on_row_alone(squared_distance_to_row_1);
  check_not_a_number(squared_distance_to_row_1);
  check_no_rows(squared_distance_to_row_1);
}

TEST_CASE("row_squared_distance_selected: error") {
  check_error(squared_distance_to_row_1, kFeaturePatterns, [](Row x) {
    const Matrix b = others(static_cast<Index>(x.size()));
    const double value = reference::squared_distance(x, {b.data() + b.cols(), x.size()});
    // what is above the largest number is infinite
    if (value > 0x1p128) return Expected{std::numeric_limits<double>::infinity(), 0};
    return Expected{value, kUnit * sum_error(x) * value};
  });
}

TEST_CASE("row_squared_distance_selected: 0 to itself, exact nearby") {
  const Matrix x = normal_rows(3, 100, 6, 1e3f);
  Matrix near = x;
  near(1, 50) = std::nextafter(x(1, 50), 1e9f);
  const std::vector<Index> rows = {0, 1, 2};
  std::vector<float> out(3);
  kernels::row_squared_distance_selected(x, near, rows, out);
  const float step = near(1, 50) - x(1, 50);
  CHECK(out == std::vector{0.0f, step * step, 0.0f});
}

TEST_CASE("selected rows: each row its own, from rows any distance apart") {
  const Matrix x = normal_rows(50, 37, 7), b = normal_rows(8, 37, 8);
  const PlacedRows placed(b, 3, 5);
  Random random(9);
  std::vector<std::int64_t> labels(50);
  for (auto& label : labels) label = random() % 8;
  const std::vector<Index> rows(labels.begin(), labels.end());
  std::vector<float> dots(50), distances(50);
  kernels::row_dot_selected(x, placed.view(), labels, dots);
  kernels::row_squared_distance_selected(x, placed.view(), rows, distances);
  for (std::size_t i = 0; i < 50; ++i) {
    const Row left(x.data() + i * 37, 37), right(b.data() + labels[i] * 37, 37);
    CHECK(dots[i] == doctest::Approx(reference::dot(left, right)).epsilon(1e-4));
    CHECK(distances[i] == doctest::Approx(reference::squared_distance(left, right)).epsilon(1e-5));
  }
}

TEST_CASE("selected rows: none selected") {
  const Matrix x = normal_rows(3, 37, 7), b = normal_rows(2, 37, 8);
  const std::vector<std::int64_t> labels = {1, -1, 0};
  const std::vector<Index> rows(labels.begin(), labels.end());
  std::vector<float> out(3);
  const auto check = [&] {
    CHECK(std::isfinite(out[0]));
    CHECK(std::isnan(out[1]));
    CHECK(std::isfinite(out[2]));
  };
  kernels::row_dot_selected(x, b, labels, out);
  check();
  kernels::row_squared_distance_selected(x, b, rows, out);
  check();
  kernels::row_absolute_distance_selected(x, b, rows, out);
  check();
}

TEST_CASE("selected rows: wrong sizes and rows that are not there") {
  const Matrix x(2, 3), b(4, 3), wide(4, 5);
  std::vector<float> out(2), long_out(3);
  const std::vector<std::int64_t> labels = {0, 3}, long_labels = {0, 1, 2}, high = {0, 4},
                                  low = {-2, 0};
  const std::vector<Index> rows(labels.begin(), labels.end()), high_rows(high.begin(), high.end());
  CHECK_THROWS_WITH_AS(kernels::row_dot_selected(x, b, labels, long_out),
                       "row_dot_selected: out has 3 entries, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_dot_selected(x, b, long_labels, out),
                       "row_dot_selected: selection has 3 entries, expected 2",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_dot_selected(x, wide, labels, out),
                       "row_dot_selected: b has 5 columns, expected 3 as x has",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_squared_distance_selected(x, wide, rows, out),
                       "row_squared_distance_selected: b has 5 columns, expected 3 as x has",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_squared_distance_selected(x, b, rows, long_out),
                       "row_squared_distance_selected: out has 3 entries, expected 2",
                       std::invalid_argument);
  if (kernels::device_queue()) return;  // a device's selection is not looked at
  CHECK_THROWS_WITH_AS(kernels::row_dot_selected(x, b, high, out),
                       "row_dot_selected: selection has 4, expected [0, 4), or -1 for none",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_dot_selected(x, b, low, out),
                       "row_dot_selected: selection has -2, expected [0, 4), or -1 for none",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      kernels::row_squared_distance_selected(x, b, high_rows, out),
      "row_squared_distance_selected: selection has 4, expected [0, 4), or -1 for none",
      std::invalid_argument);
}

TEST_CASE("find_nonfinite: the first in row order, and only within rows") {
  CHECK_FALSE(kernels::find_nonfinite(MatrixView()));
  for (const Index d : kLengths) {
    const Matrix clean = normal_rows(4, d, 10, 1e30f);
    const PlacedRows placed(clean, 1, 3);  // NaN between the rows
    CHECK_FALSE(kernels::find_nonfinite(placed.view()));
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()})
      for (const Index column : {Index{0}, d / 2, d - 1}) {
        Matrix x = clean;
        x(3, 0) = bad;
        x(2, column) = bad;
        const auto found = kernels::find_nonfinite(PlacedRows(x, 2, 1).view());
        REQUIRE(found);
        CHECK(*found == std::pair{Index{2}, column});
      }
  }
}

TEST_CASE("row_sum_of_absolutes: every row on its own") {
  check_depends_on_row_alone(kernels::row_sum_of_absolutes);
  check_not_a_number(kernels::row_sum_of_absolutes);
  check_no_rows(kernels::row_sum_of_absolutes);
}

TEST_CASE("row_sum_of_absolutes: relative error") {
  check_error(kernels::row_sum_of_absolutes, kFeaturePatterns, [](Row x) {
    const double value = reference::sum_of_absolutes(x);
    return Expected{value, kUnit * sum_error(x) * value};
  });
}

TEST_CASE("row_absolute_distance_selected: every row on its own") {
  check_depends_on_row_alone(absolute_distance_to_row_1);
  check_not_a_number(absolute_distance_to_row_1);
}

TEST_CASE("row_absolute_distance_selected: relative error") {
  check_error(absolute_distance_to_row_1, kFeaturePatterns, [](Row x) {
    const Matrix rows = others(std::ssize(x));
    const double value =
        reference::absolute_distance(x, {rows.row(1).data(), static_cast<std::size_t>(x.size())});
    return Expected{value, kUnit * sum_error(x) * value};
  });
}
