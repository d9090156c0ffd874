#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "kernels/placed_rows.h"
#include "kernels/row_patterns.h"
#include "ood/kernels.h"

using namespace ood;
using namespace ood::test;

namespace {

/// Products of queries with bank rows, [queries, bank], and |b|^2 / 2 of the bank rows.
struct Products {
  Matrix dots;
  std::vector<float> half_norms;

  Products(Index queries, Index bank)
      : dots(queries, bank), half_norms(static_cast<std::size_t>(bank)) {}

  /// Small integers: many rows are equally near.
  static Products with_ties(Index queries, Index bank) {
    Products p(queries, bank);
    Random random(21);
    for (float& v : p.dots.reshaped()) v = static_cast<float>(random() % 5);
    for (float& v : p.half_norms) v = static_cast<float>(random() % 3);
    return p;
  }
  static Products distinct(Index queries, Index bank) {
    Products p(queries, bank);
    Random random(22);
    for (float& v : p.dots.reshaped()) v = normal(random, 10);
    for (float& v : p.half_norms) v = std::abs(normal(random, 10));
    return p;
  }
  /// Each row nearer than all before: nothing found early is kept.
  static Products ascending(Index queries, Index bank) {
    Products p(queries, bank);
    for (Index i = 0; i < queries; ++i)
      for (Index j = 0; j < bank; ++j) p.dots(i, j) = static_cast<float>(j * (i + 1));
    return p;
  }

  /// The k-th nearest by a sort of all.
  std::vector<Index> sorted(Index k) const {
    std::vector<Index> kth;
    for (Index i = 0; i < dots.rows(); ++i) {
      std::vector<Index> rows(half_norms.size());
      std::iota(rows.begin(), rows.end(), 0);
      const auto key = [&](Index row) {
        return dots(i, row) - half_norms[static_cast<std::size_t>(row)];
      };
      std::ranges::stable_sort(rows, [&](Index a, Index b) { return key(a) > key(b); });
      kth.push_back(rows[static_cast<std::size_t>(k - 1)]);
    }
    return kth;
  }

  /// The same by NearestRows, with the bank cut into blocks.
  std::vector<Index> found(Index k, Index block) const {
    kernels::NearestRows nearest(dots.rows(), k);
    for (Index first = 0; first < dots.cols(); first += block) update(nearest, first, block);
    return nearest.kth();
  }

  void update(kernels::NearestRows& nearest, Index first, Index block) const {
    const Index count = std::min(block, dots.cols() - first);
    const Matrix columns = dots.middleCols(first, count);
    nearest.update(PlacedRows(columns, 1, 2).view(),
                   std::span(half_norms)
                       .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
                   first);
  }
};

}  // namespace

TEST_CASE("NearestRows: as a full sort, however the bank is cut") {
  for (const Index bank : {1, 2, 5, 16, 17, 63, 100, 257, 1300})
    for (const auto& products :
         {Products::with_ties(4, bank), Products::distinct(4, bank), Products::ascending(4, bank)})
      for (const Index k : {Index{1}, Index{2}, Index{50}, bank / 2, bank - 1, bank}) {
        if (k < 1 || k > bank) continue;
        CAPTURE(bank);
        CAPTURE(k);
        const auto expected = products.sorted(k);
        for (const Index block : {Index{1}, Index{7}, Index{16}, Index{100}, Index{1024}, bank}) {
          if (block == 1 && bank > 300) continue;
          CAPTURE(block);
          CHECK(products.found(k, block) == expected);
        }
      }
}

TEST_CASE("NearestRows: equal rows count one by one, the lower first") {
  Products equal(1, 600);
  equal.dots.setConstant(2.5f);
  for (const Index k : {1, 2, 17, 300, 600}) CHECK(equal.found(k, 64) == std::vector<Index>{k - 1});
}

TEST_CASE("NearestRows: asking does not end the search") {
  const auto products = Products::distinct(3, 200);
  kernels::NearestRows nearest(3, 20);
  products.update(nearest, 0, 100);
  CHECK(nearest.kth() == nearest.kth());
  products.update(nearest, 100, 100);
  CHECK(nearest.kth() == products.sorted(20));
}

TEST_CASE("NearestRows: -1 for a query whose products are not numbers, and for no other") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), infinity, -infinity})
    for (const Index bank : {1, 15, 16, 17, 700})
      for (const Index column : {Index{0}, bank / 2, bank - 1}) {
        auto products = Products::distinct(3, bank);
        auto expected = products.sorted(1);
        expected[1] = -1;
        products.dots(1, column) = bad;
        CHECK(products.found(1, 64) == expected);
      }
}

TEST_CASE("NearestRows: no queries, and blocks without rows") {
  kernels::NearestRows nobody(0, 3);
  nobody.update(MatrixView(nullptr, 0, 2), std::vector{1.0f, 2.0f}, 0);
  CHECK(nobody.kth().empty());

  kernels::NearestRows nearest(2, 1);
  nearest.update(MatrixView(nullptr, 2, 0), {}, 0);
  Products::ascending(2, 3).update(nearest, 0, 3);
  CHECK(nearest.kth() == std::vector<Index>{2, 2});
}

TEST_CASE("NearestRows: wrong sizes") {
  CHECK_THROWS_WITH_AS(kernels::NearestRows(2, 0), "NearestRows: k has 0, expected 1 or more",
                       std::invalid_argument);
  kernels::NearestRows nearest(2, 5);
  const Matrix dots = normal_rows(2, 3, 1), more = normal_rows(3, 3, 1);
  const std::vector<float> half_norms(3), short_norms(2);
  CHECK_THROWS_WITH_AS(nearest.update(dots, short_norms, 0),
                       "NearestRows.update: half_norms has 2 entries, expected 3",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(nearest.update(more, half_norms, 0),
                       "NearestRows.update: queries has 3 entries, expected 2",
                       std::invalid_argument);
  nearest.update(dots, half_norms, 0);
  CHECK_THROWS_WITH_AS(nearest.kth(), "NearestRows.kth: 3 rows seen, expected 5 or more",
                       std::invalid_argument);
}

TEST_CASE(
    "NearestRows: candidates are the k nearest and all within the slack, however the bank is cut") {
  const Matrix keys = normal_rows(5, 700, 1);
  const std::vector<float> half_norms(700, 0.0f), slack = {0.0f, 0.1f, 0.5f, 1.0f, 100.0f};
  for (const Index cut : {700, 64, 7}) {
    kernels::NearestRows nearest(5, 20, slack);
    for (Index first = 0; first < 700; first += cut) {
      const Index count = std::min<Index>(cut, 700 - first);
      const Matrix part = keys.middleCols(first, count);
      nearest.update(part, std::span(half_norms).first(static_cast<std::size_t>(count)), first);
    }
    for (Index i = 0; i < 5; ++i) {
      std::vector<float> sorted(keys.row(i).data(), keys.row(i).data() + 700);
      std::ranges::sort(sorted, std::greater<>());
      const float limit = sorted[19] - slack[static_cast<std::size_t>(i)];
      const auto found = nearest.candidates(i);
      std::vector<Index> rows(found.begin(), found.end());
      std::ranges::sort(rows);
      std::vector<Index> want;
      for (Index j = 0; j < 700; ++j)
        if (keys(i, j) >= limit) want.push_back(j);
      CHECK(rows == want);
    }
  }
}
