// Exact percentiles, against sorting and against numpy.
#include "ood/quantiles.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ood/accumulators/digit_counts.h"
#include "synthetic.h"

using namespace ood;

namespace {

MatrixD of(const Matrix& rows, std::vector<double> percentiles, QuantileScope scope,
           Index batch_rows = 16'384, const Exec& exec = {}) {
  Batch batch;
  batch.features = rows;
  MemorySource source(batch, nullptr, batch_rows);
  return feature_percentiles(source, percentiles, scope, exec);
}

/// By sorting.
double expected(std::vector<double> values, double percent) {
  std::ranges::sort(values);
  const double h = static_cast<double>(values.size() - 1) * (percent / 100);
  const auto k = static_cast<std::size_t>(h);
  const double a = values[k], b = values[std::min(k + 1, values.size() - 1)];
  const double t = h - static_cast<double>(k);
  return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
}

std::vector<double> entries(const Matrix& rows) {
  const MatrixD wide = rows.cast<double>();
  return {wide.data(), wide.data() + wide.size()};
}

const std::vector<double> kPercents = {0, 0.1, 1, 10, 37.5, 50, 60, 90, 99.9, 100};

void check_against_sorting(const Matrix& rows) {
  const MatrixD all = of(rows, kPercents, QuantileScope::all);
  const MatrixD each = of(rows, kPercents, QuantileScope::dimension);
  REQUIRE(all.rows() == std::ssize(kPercents));
  REQUIRE(all.cols() == 1);
  REQUIRE(each.rows() == std::ssize(kPercents));
  REQUIRE(each.cols() == rows.cols());
  for (Index p = 0; p < all.rows(); ++p) {
    const double percent = kPercents[static_cast<std::size_t>(p)];
    CAPTURE(percent);
    // to a last digit: a product and a sum may be one operation in one place and two in another
    CHECK(all(p, 0) == doctest::Approx(expected(entries(rows), percent)).epsilon(1e-15));
    CHECK(percentile(entries(rows), percent) == doctest::Approx(all(p, 0)).epsilon(1e-15));
    for (Index j = 0; j < rows.cols(); ++j)
      CHECK(each(p, j) == doctest::Approx(expected(entries(rows.col(j)), percent)).epsilon(1e-15));
  }
}

}  // namespace

TEST_CASE("quantiles: what numpy.percentile gives") {
  Matrix rows(4, 2);
  rows << 3, -1, 4, 1, -5, 9, 2, 6.5f;
  // numpy.percentile(rows, [0, 10, 37.5, 50, 90, 100])
  const MatrixD all = of(rows, {0, 10, 37.5, 50, 90, 100}, QuantileScope::all);
  const std::array<double, 6> numpy_all = {-5.0, -2.2, 1.625, 2.5, 7.25, 9.0};
  for (std::size_t p = 0; p < numpy_all.size(); ++p)
    CHECK(all(static_cast<Index>(p), 0) == doctest::Approx(numpy_all[p]).epsilon(1e-15));
  // numpy.percentile(rows, [10, 50, 99.9], axis=0)
  const MatrixD each = of(rows, {10, 50, 99.9}, QuantileScope::dimension);
  const MatrixD numpy_each = (MatrixD(3, 2) << -2.9, -0.4, 2.5, 3.75, 3.997, 8.9925).finished();
  for (Index p = 0; p < 3; ++p)
    for (Index j = 0; j < 2; ++j)
      CHECK(each(p, j) == doctest::Approx(numpy_each(p, j)).epsilon(1e-15));
}

TEST_CASE("quantiles: what sorting gives") {
  SUBCASE("of either sign, over many powers of 2") {
    Matrix rows = test::normal_matrix(5'003, 5, 3);
    rows = rows.array().cube() * 1e-3f;
    rows.col(4) *= 1e20f;
    check_against_sorting(rows);
  }
  SUBCASE("with ties, as after a ReLU") {
    Matrix rows = test::normal_matrix(1'001, 4, 4).cwiseMax(0.0f);
    rows.col(1) = (rows.col(1) * 3).array().round();
    rows.col(2).setZero();
    rows.col(3).setConstant(-2.5f);
    check_against_sorting(rows);
  }
  SUBCASE("neighbours of each other") {
    Matrix rows(9, 1);
    float x = 1;
    for (Index i = 0; i < rows.rows(); ++i) rows(i, 0) = x = std::nextafter(x, 2.0f);
    check_against_sorting(rows);
  }
  SUBCASE("the ends of float32") {
    Matrix rows(6, 1);
    rows << std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
        std::numeric_limits<float>::denorm_min(), -std::numeric_limits<float>::denorm_min(),
        std::numeric_limits<float>::min(), 0;
    check_against_sorting(rows);
  }
  SUBCASE("one row") { check_against_sorting((Matrix(1, 3) << 5, -1, 0).finished()); }
  SUBCASE("one column") { check_against_sorting(test::normal_matrix(100, 1, 5)); }
  SUBCASE("one number") { check_against_sorting(Matrix::Constant(1, 1, -7.25f)); }
}

TEST_CASE("quantiles: -0 is 0") {
  Matrix rows(4, 1);
  rows << -0.0f, 0.0f, -0.0f, 0.0f;
  for (const auto scope : {QuantileScope::all, QuantileScope::dimension})
    for (const double percent : {0.0, 50.0, 100.0}) {
      const double value = of(rows, {percent}, scope)(0, 0);
      CHECK(value == 0);
      CHECK_FALSE(std::signbit(value));
    }
}

TEST_CASE("quantiles: the bits of floats are ordered as the floats are") {
  const std::array<float, 9> ascending = {
      std::numeric_limits<float>::lowest(), -2, -1, -1e-40f, 0, 1e-40f, 1, 2,
      std::numeric_limits<float>::max()};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    CHECK(from_ordered_bits(ordered_bits(ascending[i])) == ascending[i]);
    if (i > 0) CHECK(ordered_bits(ascending[i - 1]) < ordered_bits(ascending[i]));
  }
}

TEST_CASE("quantiles: the same bits for any number of threads and any size of batches") {
  const Matrix rows = test::normal_matrix(9'001, 7, 6).cwiseMax(-0.5f);
  for (const auto scope : {QuantileScope::all, QuantileScope::dimension}) {
    const MatrixD want = of(rows, {1, 60, 90}, scope, 16'384, Exec{1});
    for (const int threads : {1, 2, 7})
      for (const Index batch_rows : {100, 4'096, 5'000})
        CHECK(of(rows, {1, 60, 90}, scope, batch_rows, Exec{threads}) == want);
  }
}

TEST_CASE("quantiles: no rows, no percentiles") {
  CHECK_THROWS_WITH_AS(of(Matrix(0, 3), {50}, QuantileScope::all),
                       "memory has 0 rows, expected 1 or more", std::domain_error);
}
