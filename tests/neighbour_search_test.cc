// The neighbours are those of a loop over the bank, whatever rules rows out; rows and values to the bit.
#include "ood/neighbour_search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/row_patterns.h"

using namespace ood;
using namespace ood::test;

using Filter = NeighbourSearch::Filter;
using Likeness = NeighbourSearch::Likeness;
using Neighbours = std::vector<NeighbourSearch::Neighbour>;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// By a loop over the bank and a sort. NaN at row -1 where not all values are numbers.
Neighbours by_loop(const Matrix& queries, const Matrix& bank, Index k, Likeness likeness) {
  std::vector<Index> all(static_cast<std::size_t>(bank.rows()));
  std::iota(all.begin(), all.end(), 0);
  Neighbours found;
  for (Index i = 0; i < queries.rows(); ++i) {
    std::vector<float> values(all.size());
    const MatrixView repeated(MatrixView(queries).row_data(i), bank.rows(), bank.cols(), 0);
    const bool distance = likeness == Likeness::distance;
    if (distance)
      kernels::row_squared_distance_selected(repeated, bank, all, values);
    else
      kernels::row_dot_selected(repeated, bank, all, values);
    if (std::ranges::any_of(values, [](float v) { return std::isnan(v); })) {
      found.resize(found.size() + static_cast<std::size_t>(k), {std::nanf(""), -1});
      continue;
    }
    std::vector<Index> rows = all;
    std::ranges::stable_sort(rows, [&](Index a, Index b) {
      const float va = values[static_cast<std::size_t>(a)],
                  vb = values[static_cast<std::size_t>(b)];
      return distance ? va < vb : va > vb;
    });
    for (Index j = 0; j < k; ++j) {
      const Index row = rows[static_cast<std::size_t>(j)];
      found.push_back({values[static_cast<std::size_t>(row)], row});
    }
  }
  return found;
}

Neighbours by_search(const Matrix& queries, const Matrix& bank, Index k, Likeness likeness,
                     Filter filter, Index* compared = nullptr) {
  Neighbours found(static_cast<std::size_t>(queries.rows() * k));
  NeighbourSearch(bank, likeness, filter).find(queries, bank, k, found, compared);
  return found;
}

bool same(const Neighbours& a, const Neighbours& b) {
  return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
    return x.row == y.row && (x.value == y.value || (std::isnan(x.value) && std::isnan(y.value)));
  });
}

void check(const Matrix& queries, const Matrix& bank) {
  for (const Likeness likeness : {Likeness::distance, Likeness::product})
    for (const Index k : {Index{1}, Index{7}, Index{50}, bank.rows()}) {
      if (k > bank.rows()) continue;
      const Neighbours expected = by_loop(queries, bank, k, likeness);
      for (const Filter filter : {Filter::float32, Filter::bfloat16}) {
        const bool product = likeness == Likeness::product, rough = filter == Filter::bfloat16;
        CAPTURE(product);
        CAPTURE(rough);
        CAPTURE(k);
        Index compared = 0;
        CHECK(same(by_search(queries, bank, k, likeness, filter, &compared), expected));
        CHECK(compared >= queries.rows() * k);
        CHECK(compared <= queries.rows() * bank.rows());
      }
    }
}

/// Entries near the middle of two bfloat16 numbers, which a row has rounded up and another one down, and
/// others that make up for it: what is rounded is ordered in another way than what is exact. Each row
/// comes with its negative, so that the mean is 0.
Matrix rounded_against(Index rows, Index cols, std::uint32_t seed) {
  Random random(seed);
  Matrix x(rows, cols);
  for (Index i = 0; i < rows; i += 2) {
    const float up = uniform(random, 0, 1), more = uniform(random, 0, 1);
    for (Index j = 0; j < cols; ++j)
      x(i, j) = j % 3 == 0 ? (uniform(random, 0, 1) < more * (1 - up) ? 1 + 0x1p-7f : 1.0f)
                           : 1 + 0x1p-8f + (uniform(random, 0, 1) < up ? 0x1p-20f : -0x1p-20f);
    if (i + 1 < rows) x.row(i + 1) = -x.row(i);
  }
  return x;
}

struct Bank {
  std::string_view name;
  Matrix (*rows)(Index rows, Index cols, std::uint32_t seed);
};

const std::vector<Bank> kBanks = {
    {"normal", [](Index n, Index d, std::uint32_t s) { return normal_rows(n, d, s); }},
    {"clusters behind a ReLU",
     [](Index n, Index d, std::uint32_t s) {
       const Matrix means = normal_rows(7, d, 99);
       Matrix x = normal_rows(n, d, s, 0.3f);
       for (Index i = 0; i < n; ++i) x.row(i) += means.row(i % 7);
       return Matrix(x.cwiseMax(0));
     }},
    {"unit length",
     [](Index n, Index d, std::uint32_t s) {
       Matrix x;
       kernels::normalize_rows(Matrix(normal_rows(n, d, s).cwiseMax(0)), x);
       return x;
     }},
    {"tight clusters far from the origin",
     [](Index n, Index d, std::uint32_t s) {
       const Matrix means = normal_rows(3, d, 98, 1000);
       Matrix x = normal_rows(n, d, s, 1e-3f);
       for (Index i = 0; i < n; ++i) x.row(i) += means.row(i % 3);
       return x;
     }},
    {"few different rows",
     [](Index n, Index d, std::uint32_t s) {
       const Matrix all = normal_rows(5, d, 97);
       Random random(s);
       Matrix x(n, d);
       for (Index i = 0; i < n; ++i) x.row(i) = all.row(static_cast<Index>(random() % 5));
       return x;
     }},
    {"small integers",
     [](Index n, Index d, std::uint32_t s) {
       Random random(s);
       Matrix x(n, d);
       for (float& v : x.reshaped()) v = static_cast<float>(random() % 3);
       return x;
     }},
    {"all equal",
     [](Index n, Index d, std::uint32_t) { return Matrix(Matrix::Constant(n, d, 0.3f)); }},
    {"zeros", [](Index n, Index d, std::uint32_t) { return Matrix(Matrix::Zero(n, d)); }},
    {"heavy tails",
     [](Index n, Index d, std::uint32_t s) {
       Random random(s);
       Matrix x(n, d);
       for (float& v : x.reshaped()) v = normal(random) / (1e-4f + uniform(random, 0, 1));
       return x;
     }},
    {"rows of any length",
     [](Index n, Index d, std::uint32_t s) {
       Random random(s + 1);
       Matrix x = normal_rows(n, d, s);
       for (Index i = 0; i < n; ++i) x.row(i) *= std::pow(10.0f, uniform(random, -6, 6));
       return x;
     }},
    {"one huge row",
     [](Index n, Index d, std::uint32_t s) {
       Matrix x = normal_rows(n, d, s);
       x.row(n / 2) *= 1e12f;
       return x;
     }},
    {"a row whose square overflows",
     [](Index n, Index d, std::uint32_t s) {
       Matrix x = normal_rows(n, d, s);
       x.row(n / 2) *= 1e25f;
       return x;
     }},
    {"squares overflow",
     [](Index n, Index d, std::uint32_t s) { return normal_rows(n, d, s, 3e18f); }},
    {"squares underflow",
     [](Index n, Index d, std::uint32_t s) { return normal_rows(n, d, s, 1e-21f); }},
    {"denormal", [](Index n, Index d, std::uint32_t s) { return normal_rows(n, d, s, 1e-40f); }},
    {"denormal in part",
     [](Index n, Index d, std::uint32_t s) {
       Matrix x = normal_rows(n, d, s);
       x.leftCols(d / 2) *= 1e-38f;
       return x;
     }},
    {"rounded against each other", rounded_against},
};

}  // namespace

TEST_CASE("neighbour_search: as a loop over the bank") {
  for (const Bank& kind : kBanks)
    for (const Index cols : {1, 3, 33, 200})
      for (const Index rows : {1, 60, 1500}) {
        CAPTURE(kind.name);
        CAPTURE(cols);
        CAPTURE(rows);
        const Matrix bank = kind.rows(rows, cols, 1);
        Matrix queries = kind.rows(5, cols, 2);
        queries.row(1) = bank.row(rows / 3);  // a row of the bank itself
        queries.row(2) *= 100;
        queries.row(3).setZero();
        check(queries, bank);
      }
}

TEST_CASE("neighbour_search: queries of another kind than the bank") {
  const Matrix bank = kBanks[2].rows(1100, 40, 1);
  for (const Bank& kind : kBanks) {
    CAPTURE(kind.name);
    check(kind.rows(4, 40, 2), bank);
  }
}

TEST_CASE("neighbour_search: more rows near the k-th than may wait") {
  const Matrix bank = kBanks[3].rows(9000, 20, 1), queries = kBanks[3].rows(3, 20, 2);
  Index compared = 0;
  CHECK(by_search(queries, bank, 50, Likeness::distance, Filter::bfloat16, &compared) ==
        by_loop(queries, bank, 50, Likeness::distance));
  CHECK(compared > 3 * 2100);  // it was the case
}

TEST_CASE("neighbour_search: few values are taken where rows differ") {
  const Matrix bank = kBanks[2].rows(5000, 200, 1), queries = kBanks[2].rows(10, 200, 2);
  for (const Likeness likeness : {Likeness::distance, Likeness::product}) {
    Index compared = 0;
    by_search(queries, bank, 20, likeness, Filter::float32, &compared);
    CHECK(compared < 10 * 40);
    by_search(queries, bank, 20, likeness, Filter::bfloat16, &compared);
    CHECK(compared < 10 * 500);
  }
}

TEST_CASE("neighbour_search: a row's neighbours do not depend on the others, nor on strides") {
  const Matrix bank = kBanks[1].rows(1500, 30, 1), queries = kBanks[1].rows(300, 30, 2);
  for (const Filter filter : {Filter::fastest, Filter::float32, Filter::bfloat16}) {
    const Neighbours all = by_search(queries, bank, 9, Likeness::distance, filter);
    const NeighbourSearch search(bank, Likeness::distance, filter);
    Neighbours one(9);
    for (const Index i : {Index{0}, Index{127}, Index{128}, Index{299}}) {
      search.find(MatrixView(queries).middle_rows(i, 1), bank, 9, one);
      CHECK(std::ranges::equal(one, std::span(all).subspan(static_cast<std::size_t>(i) * 9, 9)));
    }
    Matrix wide = Matrix::Constant(300, 50, NAN), wide_bank = Matrix::Constant(1500, 41, NAN);
    wide.leftCols(30) = queries;
    wide_bank.leftCols(30) = bank;
    const MatrixView strided(wide_bank.data(), 1500, 30, 41);
    Neighbours again(all.size());
    NeighbourSearch(strided, Likeness::distance, filter)
        .find({wide.data(), 300, 30, 50}, strided, 9, again);
    CHECK(again == all);
  }
}

TEST_CASE("neighbour_search: NaN for a query with NaN or infinity, and for no other") {
  const Matrix bank = normal_rows(100, 20, 1);
  for (const float bad : {std::nanf(""), kInfinity, -kInfinity})
    for (const Likeness likeness : {Likeness::distance, Likeness::product})
      for (const Filter filter : {Filter::float32, Filter::bfloat16}) {
        Matrix queries = normal_rows(3, 20, 2);
        Neighbours expected = by_loop(queries, bank, 4, likeness);
        queries(1, 7) = bad;
        const Neighbours found = by_search(queries, bank, 4, likeness, filter);
        for (std::size_t j = 0; j < found.size(); ++j) {
          if (j / 4 != 1) {
            CHECK(found[j] == expected[j]);
          } else {
            CHECK(std::isnan(found[j].value));
            CHECK(found[j].row == -1);
          }
        }
      }
}

TEST_CASE("neighbour_search: NaN where values are not numbers") {
  Matrix bank = normal_rows(100, 20, 1);
  bank(50, 0) = 3e38f;
  bank(50, 1) = -3e38f;
  Matrix queries = normal_rows(1, 20, 2);
  queries(0, 0) = queries(0, 1) = 1e10f;  // infinity - infinity
  for (const Filter filter : {Filter::float32, Filter::bfloat16})
    CHECK(std::isnan(by_search(queries, bank, 1, Likeness::product, filter)[0].value));
}

TEST_CASE("neighbour_search: no queries") {
  const Matrix bank = normal_rows(10, 3, 1);
  CHECK(by_search(Matrix(0, 3), bank, 2, Likeness::distance, Filter::float32).empty());
}

TEST_CASE("neighbour_search: wrong shapes") {
  const Matrix bank = normal_rows(10, 3, 1), other = normal_rows(9, 3, 1),
               narrow = normal_rows(2, 2, 1), queries = normal_rows(2, 3, 1);
  const NeighbourSearch search(bank, Likeness::distance);
  Neighbours found(4);
  CHECK_THROWS_WITH_AS(search.find(queries, other, 2, found),
                       "NeighbourSearch.find: bank has shape [9, 3], expected [10, 3]",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(search.find(narrow, bank, 2, found),
                       "NeighbourSearch.find: queries has 2 columns, expected 3 as bank has",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(search.find(queries, bank, 0, found),
                       "NeighbourSearch.find: k has 0, expected 1 to 10, the rows of bank",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(search.find(queries, bank, 11, found),
                       "NeighbourSearch.find: k has 11, expected 1 to 10, the rows of bank",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(search.find(queries, bank, 3, found),
                       "NeighbourSearch.find: found has 4 entries, expected 6",
                       std::invalid_argument);
}
