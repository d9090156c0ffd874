#include <doctest/doctest.h>

#include <cmath>

#include "device/emulated_queue.h"
#include "kernels/placed_rows.h"
#include "kernels/row_patterns.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

using namespace ood;
using namespace ood::test;

namespace {

/// What was there before is added to.
MatrixD initial(Index d) { return MatrixD::Constant(d, d, 0.25); }

/// |got - sum_i y_ij y_ik| over the lower triangle, relative to sum_i |y_ij y_ik|: the largest.
double worst_error(const MatrixD& got, const MatrixD& y) {
  const Index d = y.cols();
  const MatrixD before = initial(d);
  double worst = 0;
  for (Index j = 0; j < d; ++j)
    for (Index k = 0; k <= j; ++k) {
      long double sum = before(j, k), magnitude = sum;
      for (Index i = 0; i < y.rows(); ++i) {
        const long double product = static_cast<long double>(y(i, j)) * y(i, k);
        sum += product;
        magnitude += std::abs(product);
      }
      const auto error = static_cast<double>(std::abs(sum - got(j, k)) / magnitude);
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
    }
  return worst;
}

MatrixD scatter_of(const MatrixD& y) {
  MatrixD scatter = initial(y.cols());
  kernels::add_scatter(y, scatter);
  return scatter;
}

std::vector<Index> cycling(Index rows, Index centers) {
  std::vector<Index> center(static_cast<std::size_t>(rows));
  for (Index i = 0; i < rows; ++i) center[static_cast<std::size_t>(i)] = (i * 7 + 1) % centers;
  return center;
}

/// Rows minus their centers.
MatrixD differences(const Matrix& x, const MatrixD& centers, const std::vector<Index>& center) {
  MatrixD y = x.cast<double>();
  for (Index i = 0; i < y.rows(); ++i) y.row(i) -= centers.row(center[static_cast<std::size_t>(i)]);
  return y;
}

}  // namespace

TEST_CASE("add_scatter: widths around the panels") {
  for (Index d = 1; d <= 50; ++d)
    for (const Index n : {1, 2, 5, 60}) {
      const MatrixD y = normal_rows(n, d, 31).cast<double>();
      CAPTURE(d);
      CAPTURE(n);
      CHECK(worst_error(scatter_of(y), y) <= 1e-12);
    }
}

TEST_CASE("add_scatter: widths that end anywhere in a panel of AVX-512") {
  for (Index d = 51; d <= 99; ++d) {
    const MatrixD y = normal_rows(7, d, 31).cast<double>();
    CAPTURE(d);
    CHECK(worst_error(scatter_of(y), y) <= 1e-12);
  }
}

TEST_CASE("add_scatter: numbers of rows around those packed at once") {
  for (const Index n : {255, 256, 257, 511, 512, 513, 600})
    for (const Index d : {1, 6, 7, 12, 13, 24, 25}) {
      const MatrixD y = normal_rows(n, d, 32).cast<double>();
      CAPTURE(d);
      CAPTURE(n);
      CHECK(worst_error(scatter_of(y), y) <= 1e-12);
    }
}

TEST_CASE("add_scatter: the width of real features") {
  const MatrixD y = normal_rows(40, 342, 33).cast<double>();
  CHECK(worst_error(scatter_of(y), y) <= 1e-12);
}

TEST_CASE("add_scatter: block after block is all at once") {
  const MatrixD y = normal_rows(300, 19, 34).cast<double>();
  for (const Index cut : {1, 100, 256}) {
    MatrixD scatter = initial(19);
    kernels::add_scatter(y.topRows(cut), scatter);
    kernels::add_scatter(y.bottomRows(300 - cut), scatter);
    CHECK(worst_error(scatter, y) <= 1e-12);
  }
}

TEST_CASE("add_scatter: the parts together are all of it, to the bit") {
  for (const Index d : {0, 1, 23, 24, 25, 100, 342}) {
    const MatrixD y = normal_rows(300, d, 35).cast<double>();
    const MatrixD whole = scatter_of(y);
    for (const Index parts : {1, 2, 3, 7, 40}) {
      CAPTURE(d);
      CAPTURE(parts);
      MatrixD scatter = initial(d);
      for (Index part = 0; part < parts; ++part) {
        const MatrixD before = scatter;
        kernels::add_scatter(y, scatter, part, parts);
        if (parts == 2 && d >= 100) CHECK(scatter != before);
      }
      for (Index j = 0; j < d; ++j) CHECK(scatter.col(j).tail(d - j) == whole.col(j).tail(d - j));
    }
  }
  MatrixD scatter = initial(3);
  for (const Index part : {-1, 2})
    CHECK_THROWS_AS(kernels::add_scatter(MatrixD(2, 3), scatter, part, 2), std::invalid_argument);
}

TEST_CASE("add_scatter: what is not a number stays in its row and column") {
  for (const Index d : {1, 5, 6, 7, 13, 25, 30})
    for (const Index bad : {Index{0}, d / 2, d - 1}) {
      MatrixD y = normal_rows(10, d, 35).cast<double>();
      const MatrixD clean = scatter_of(y);
      y(3, bad) = std::nan("");
      const MatrixD scatter = scatter_of(y);
      int wrong = 0;
      for (Index j = 0; j < d; ++j)
        for (Index k = 0; k <= j; ++k)
          wrong += j == bad || k == bad ? !std::isnan(scatter(j, k)) : scatter(j, k) != clean(j, k);
      CHECK(wrong == 0);
    }
}

TEST_CASE("add_centered_scatter: rows far from 0") {
  for (const Index d : {1, 5, 6, 7, 8, 9, 15, 16, 17, 23, 24, 25, 37, 60}) {
    const Matrix x = (normal_rows(300, d, 36).array() + 1e6f).matrix();
    const MatrixD centers =
        (normal_rows(4, d, 37).cast<double>().array() + 1e6 + 0.123456789).matrix();
    const auto center = cycling(300, 4);
    MatrixD scatter = initial(d);
    kernels::add_centered_scatter(PlacedRows(x, 1, 3).view(), centers, center, scatter);
    CAPTURE(d);
    CHECK(worst_error(scatter, differences(x, centers, center)) <= 1e-12);
  }
}

TEST_CASE("add_centered_scatter: the same bits as of the differences") {
  // Of 257 rows, the last is packed alone
  const Matrix x = normal_rows(257, 31, 38);
  const MatrixD centers = normal_rows(9, 31, 39).cast<double>() / 3;
  const auto center = cycling(257, 9);
  MatrixD scatter = initial(31);
  kernels::add_centered_scatter(x, centers, center, scatter);
  const MatrixD expected = scatter_of(differences(x, centers, center));
  const MatrixD lower = scatter.triangularView<Eigen::Lower>();
  CHECK((lower.array() == MatrixD(expected.triangularView<Eigen::Lower>()).array()).all());
}

TEST_CASE("scatter: on a device") {
  const Matrix x = normal_rows(5000, 9, 40);
  const MatrixD centers = normal_rows(4, 9, 41).cast<double>();
  const auto center = cycling(5000, 4);
  const MatrixD y = differences(x, centers, center);
  MatrixD centered = initial(9), halves = initial(9);
  {
    const EmulatedDevice device;
    const auto queue = open_emulated_queue(0);
    kernels::DeviceCopies copies;
    const kernels::DeviceScope scope(*queue, copies);
    Scratch scratch;
    MatrixMap rows = scratch.matrix(x.rows(), x.cols());
    queue->copy_in(rows.data(), x.data(), static_cast<std::size_t>(x.size()) * sizeof(float));
    kernels::add_centered_scatter(rows, centers, center, centered);
    kernels::add_scatter(y, halves, 0, 2);
    kernels::add_scatter(y, halves, 1, 2);
  }
  CHECK(worst_error(centered, y) <= 1e-12);
  CHECK(worst_error(halves, y) <= 1e-12);
}

TEST_CASE("scatter: no rows, no columns") {
  MatrixD scatter = initial(7), none(0, 0);
  kernels::add_scatter(MatrixD(0, 7), scatter);
  kernels::add_centered_scatter(MatrixView(nullptr, 0, 7), MatrixD(2, 7), {}, scatter);
  CHECK((scatter.array() == initial(7).array()).all());
  CHECK_NOTHROW(kernels::add_scatter(MatrixD(3, 0), none));
}

TEST_CASE("scatter: wrong sizes") {
  const Matrix x = normal_rows(2, 3, 1);
  const MatrixD centers = MatrixD::Zero(4, 3);
  const std::vector<Index> center = {0, 3}, long_center = {0, 1, 2}, high = {0, 4}, low = {-1, 0};
  MatrixD scatter(3, 3), wide(3, 4);
  CHECK_THROWS_WITH_AS(kernels::add_scatter(MatrixD(2, 3), wide),
                       "add_scatter: scatter is 3 x 4, expected 3 x 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::add_centered_scatter(x, centers, center, wide),
                       "add_centered_scatter: scatter is 3 x 4, expected 3 x 3",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::add_centered_scatter(x, centers, long_center, scatter),
                       "add_centered_scatter: centers_row has 3 entries, expected 2",
                       std::invalid_argument);
  CHECK_THROWS_AS(kernels::add_centered_scatter(x, MatrixD::Zero(4, 5), center, scatter),
                  std::invalid_argument);
  CHECK_THROWS_AS(kernels::add_centered_scatter(x, centers, high, scatter), std::invalid_argument);
  CHECK_THROWS_AS(kernels::add_centered_scatter(x, centers, low, scatter), std::invalid_argument);
}
