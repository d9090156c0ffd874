// Neighbours on a device are those of a loop over the bank in float64, but where values tie within
// rounding; what the lists of a query hold changes nothing.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "device/emulated_queue.h"
#include "kernels/row_patterns.h"
#include "ood/neighbour_search.h"
#include "ood/scratch.h"

using namespace ood;
using namespace ood::test;

using Likeness = NeighbourSearch::Likeness;
using Neighbours = std::vector<NeighbourSearch::Neighbour>;

namespace {

Neighbours on_device(const MatrixView& queries, const MatrixView& bank, Index k, Likeness likeness,
                     Index* compared = nullptr) {
  const auto emulated = device_to_test();
  const NeighbourSearch search(bank, likeness);
  kernels::DeviceQueues queues({Device::Kind::cuda, 0});
  kernels::DeviceQueue& queue = queues[0];
  kernels::DeviceCopies copies;
  Neighbours found(static_cast<std::size_t>(queries.rows() * k));
  const kernels::DeviceScope scope(queue, copies);
  Scratch scratch;
  MatrixMap z = scratch.matrix(queries.rows(), queries.cols());
  for (Index i = 0; i < queries.rows(); ++i)
    queue.copy_in(z.data() + i * z.cols(), queries.row_data(i),
                  static_cast<std::size_t>(z.cols()) * sizeof(float));
  const auto there = scratch.span<NeighbourSearch::Neighbour>(std::ssize(found));
  search.find(z, bank, k, there, compared);
  queue.copy_out(found.data(), there.data(), there.size_bytes());
  queue.wait();
  return found;
}

/// Distance: -|z - b|^2, product: <z, b>, and how far off what float32 makes of it may be.
struct Reference {
  double value, error;
};
Reference reference(const MatrixView& z, const MatrixView& b, Index i, Index j, Likeness likeness) {
  const VectorD x = z.row(i).cast<double>(), y = b.row(j).cast<double>();
  const double unit = 0x1p-24 * (static_cast<double>(z.cols()) / 32 + 8);
  const double least = 0x1p-149 * static_cast<double>(z.cols());
  if (likeness == Likeness::distance) {
    const double square = (x - y).squaredNorm();
    return {-square, unit * square + least};
  }
  return {x.dot(y), unit * x.cwiseAbs().dot(y.cwiseAbs()) + least};
}

/// Each value is that of its row, the best first, ties to the lower row, each row once, and all that
/// is left out is no better than the last, within rounding.
void check_found(const MatrixView& queries, const MatrixView& bank, Index k, Likeness likeness,
                 const Neighbours& found) {
  const double sign = likeness == Likeness::distance ? -1 : 1;
  for (Index i = 0; i < queries.rows(); ++i) {
    CAPTURE(i);
    std::vector<bool> taken(static_cast<std::size_t>(bank.rows()));
    const auto own =
        std::span(found).subspan(static_cast<std::size_t>(i * k), static_cast<std::size_t>(k));
    bool rows = true, values = true, ordered = true, complete = true;
    for (std::size_t j = 0; j < own.size(); ++j) {
      const Index row = own[j].row;
      rows = rows && row >= 0 && row < bank.rows() && !taken[static_cast<std::size_t>(row)];
      if (!rows) break;
      taken[static_cast<std::size_t>(row)] = true;
      const Reference is = reference(queries, bank, i, row, likeness);
      const double value = sign * static_cast<double>(own[j].value);
      values = values && (std::isinf(own[j].value) ? std::abs(is.value) > 3.4e38
                                                   : std::abs(value - is.value) <= is.error);
      if (j == 0) continue;
      const double last = sign * static_cast<double>(own[j - 1].value);
      ordered = ordered && (last > value || (last == value && own[j - 1].row < row));
    }
    REQUIRE(rows);
    CHECK(values);
    CHECK(ordered);
    const NeighbourSearch::Neighbour last = own.back();
    for (Index row = 0; row < bank.rows(); ++row) {
      if (taken[static_cast<std::size_t>(row)] || std::isinf(last.value)) continue;
      const Reference is = reference(queries, bank, i, row, likeness);
      complete = complete && is.value <= sign * static_cast<double>(last.value) + is.error;
    }
    CHECK(complete);
  }
}

void check(const MatrixView& queries, const MatrixView& bank) {
  for (const Likeness likeness : {Likeness::distance, Likeness::product})
    for (const Index k : {Index{1}, Index{7}, Index{50}, bank.rows()}) {
      if (k > bank.rows()) continue;
      const bool product = likeness == Likeness::product;
      CAPTURE(product);
      CAPTURE(k);
      Index compared = 0;
      check_found(queries, bank, k, likeness, on_device(queries, bank, k, likeness, &compared));
      CHECK(compared >= queries.rows() * k);
      CHECK(compared <= queries.rows() * bank.rows());
    }
}

Matrix unit_rows(Index rows, Index cols, std::uint32_t seed) {
  Matrix x;
  kernels::normalize_rows(Matrix(normal_rows(rows, cols, seed).cwiseMax(0)), x);
  return x;
}

/// Rows of three classes that lie far from the origin and close together, taking turns.
Matrix tight_rows(Index rows, Index cols, std::uint32_t seed, Index classes = 3) {
  const Matrix means = normal_rows(classes, cols, 98, 1000);
  Matrix x = normal_rows(rows, cols, seed, 1e-3f);
  for (Index i = 0; i < rows; ++i) x.row(i) += means.row(i % classes);
  return x;
}

}  // namespace

TEST_CASE("device neighbours: as a loop over the bank") {
  for (const Index cols : {1, 33, 200})
    for (const Index rows : {1, 60, 1500}) {
      CAPTURE(cols);
      CAPTURE(rows);
      for (Matrix bank : {normal_rows(rows, cols, 1), unit_rows(rows, cols, 1),
                          tight_rows(rows, cols, 1), normal_rows(rows, cols, 1, 1e-21f),
                          normal_rows(rows, cols, 1, 1e-40f), Matrix(Matrix::Zero(rows, cols))}) {
        for (Index i = 0; i < rows; i += 5) bank.row(i) = bank.row(i / 2);  // ties
        Matrix queries = normal_rows(4, cols, 2, bank.cwiseAbs().maxCoeff() / 3);
        queries.row(1) = bank.row(rows / 3);
        queries.row(3).setZero();
        check(queries, bank);
      }
    }
}

TEST_CASE("device neighbours: equal rows tie to the lower one") {
  const Matrix bank = Matrix::Constant(7000, 5, 0.3f), queries = normal_rows(2, 5, 1);
  for (const Likeness likeness : {Likeness::distance, Likeness::product})
    for (const Index k : {1, 33, 3000}) {
      const Neighbours found = on_device(queries, bank, k, likeness);
      for (std::size_t j = 0; j < found.size(); ++j)
        REQUIRE(found[j].row == static_cast<Index>(j) % k);
    }
}

TEST_CASE("device neighbours: more rows near the k-th than lists hold") {
  for (const Index classes :
       {3, 64}) {  // 64: all near rows would be in one list, but for their turns
    const Matrix bank = tight_rows(9000, 20, 1, classes), queries = tight_rows(3, 20, 2, classes);
    Index compared = 0;
    check_found(queries, bank, 50, Likeness::distance,
                on_device(queries, bank, 50, Likeness::distance, &compared));
    CHECK(compared > 0);
    if (classes == 3) CHECK(compared > 3 * 1100);  // they were settled on the way
  }
}

TEST_CASE("device neighbours: more bank rows than one product takes, the nearest last") {
  Matrix bank = unit_rows(40'000, 8, 1);
  const Matrix queries = unit_rows(3, 8, 2);
  for (Index i = 0; i < 3; ++i) bank.row(39'990 + i) = queries.row(i);
  for (const Likeness likeness : {Likeness::distance, Likeness::product}) {
    const Neighbours found = on_device(queries, bank, 5, likeness);
    check_found(queries, bank, 5, likeness, found);
    if (likeness == Likeness::distance)
      for (std::size_t i = 0; i < 3; ++i) CHECK(found[5 * i].row == 39'990 + static_cast<Index>(i));
  }
}

TEST_CASE("device neighbours: few values are taken where rows differ") {
  const Matrix bank = unit_rows(5000, 200, 1), queries = unit_rows(10, 200, 2);
  for (const Likeness likeness : {Likeness::distance, Likeness::product}) {
    Index compared = 0;
    on_device(queries, bank, 20, likeness, &compared);
    CHECK(compared < 10 * 60);
  }
}

TEST_CASE("device neighbours: rows near float32's largest number") {
  Matrix bank = normal_rows(3000, 20, 1);
  bank.row(1500) *= 1e25f;
  check(normal_rows(3, 20, 2), bank);
  check(normal_rows(3, 20, 2, 1e20f), normal_rows(100, 20, 1));
  check(normal_rows(2, 20, 2, 3e18f), normal_rows(100, 20, 1, 3e18f));
}

TEST_CASE(
    "device neighbours: NaN for a query with NaN or infinity, and where values are not numbers") {
  const Matrix bank = normal_rows(100, 20, 1);
  Matrix overflowing = bank;
  overflowing(50, 0) = 3e38f;
  overflowing(50, 1) = -3e38f;
  Matrix queries = normal_rows(5, 20, 2);
  queries(1, 7) = std::nanf("");
  queries(2, 0) = std::numeric_limits<float>::infinity();
  queries(3, 3) = -std::numeric_limits<float>::infinity();
  Matrix opposed = normal_rows(5, 20, 2);
  opposed(2, 0) = opposed(2, 1) = 1e10f;  // infinity - infinity
  for (const Likeness likeness : {Likeness::distance, Likeness::product}) {
    const Neighbours found = on_device(queries, bank, 4, likeness);
    for (std::size_t j = 0; j < found.size(); ++j) {
      const bool bad = j / 4 >= 1 && j / 4 <= 3;
      CHECK(std::isnan(found[j].value) == bad);
      CHECK((found[j].row == -1) == bad);
    }
  }
  const Neighbours found = on_device(opposed, overflowing, 4, Likeness::product);
  for (std::size_t j = 0; j < found.size(); ++j) CHECK(std::isnan(found[j].value) == (j / 4 == 2));
}

TEST_CASE("device neighbours: a row's neighbours do not depend on the others, nor on strides") {
  const Matrix bank = tight_rows(3000, 30, 1), queries = tight_rows(40, 30, 2);
  const Neighbours all = on_device(queries, bank, 9, Likeness::distance);
  for (const Index i : {0, 17, 39})
    CHECK(std::ranges::equal(
        on_device(MatrixView(queries).middle_rows(i, 1), bank, 9, Likeness::distance),
        std::span(all).subspan(static_cast<std::size_t>(i) * 9, 9)));
  Matrix wide = Matrix::Constant(3000, 41, NAN);
  wide.leftCols(30) = bank;
  CHECK(on_device(queries, MatrixView(wide.data(), 3000, 30, 41), 9, Likeness::distance) == all);
  CHECK(on_device(Matrix(0, 30), bank, 9, Likeness::distance).empty());
}
