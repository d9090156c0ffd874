#include "kernels/nearest.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/row_patterns.h"

using namespace ood;
using namespace ood::test;

namespace {

std::vector<float> numbers(std::size_t n, std::uint32_t seed, float low, float high) {
  Random random(seed);
  std::vector<float> all(n);
  for (float& v : all) v = uniform(random, low, high);
  return all;
}

/// Rows, some of them alike, with room for a vector behind the last one.
struct Found {
  std::vector<float> lower, upper;
  std::vector<std::uint32_t> rows;
  explicit Found(std::size_t n) : lower(n), upper(n), rows(n) {}
  kernels::Reaching from(std::size_t i) {
    return {lower.data() + i, upper.data() + i, rows.data() + i};
  }
};

}  // namespace

TEST_CASE("find_reaching: the rows whose keys may reach the limit, whatever the room") {
  const kernels::KeyError error{0.1f, 0.2f, 0.01f, 0.05f};
  for (const std::size_t n : {1u, 2u, 15u, 16u, 17u, 63u, 64u, 100u, 1024u}) {
    const auto dots = numbers(n, 1, -1, 1), offsets = numbers(n, 2, -1, 1),
               norms = numbers(n, 3, 0, 1), residuals = numbers(n, 4, 0, 1);
    for (const float limit : {-std::numeric_limits<float>::infinity(), -0.5f, 0.5f, 1.9f, 9.0f})
      for (const std::size_t room : {std::size_t{16}, std::size_t{23}, n + 16}) {
        CAPTURE(n);
        CAPTURE(limit);
        CAPTURE(room);
        std::size_t count = 0, begin = 0;
        Found found(n + room);
        while (begin < n) {
          const std::size_t before = begin;
          count += kernels::find_reaching(dots, {offsets, norms, residuals}, error, limit, 1000,
                                          begin, room, found.from(count));
          REQUIRE(begin > before);
        }
        REQUIRE(count <= n);
        std::size_t next = 0;
        for (std::size_t j = 0; j < n; ++j) {
          const double key = static_cast<double>(dots[j]) + static_cast<double>(offsets[j]);
          const double off = 0.1 * static_cast<double>(norms[j]) +
                             0.2 * static_cast<double>(residuals[j]) +
                             0.01 * std::abs(static_cast<double>(offsets[j])) + 0.05;
          const double rounding = 4 * kUnit *
                                  (std::abs(static_cast<double>(dots[j])) +
                                   std::abs(static_cast<double>(offsets[j])) + off);
          const bool there = next < count && found.rows[next] == 1000 + j;
          if (std::abs(key + off - static_cast<double>(limit)) > rounding)
            CHECK(there == (key + off > static_cast<double>(limit)));
          if (!there) continue;
          CHECK(std::abs(static_cast<double>(found.lower[next]) - (key - off)) <= rounding);
          CHECK(std::abs(static_cast<double>(found.upper[next]) - (key + off)) <= rounding);
          CHECK(found.upper[next] >= limit);
          ++next;
        }
        CHECK(next == count);
      }
  }
}

TEST_CASE("kth_largest: as a sort") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::size_t n : {1u, 2u, 7u, 16u, 17u, 100u, 1023u})
    for (auto values :
         {numbers(n, 5, -1, 1), numbers(n, 6, 1e-39f, 2e-39f), std::vector<float>(n, -3.5f),
          numbers(n, 7, -2e-38f, 1e-38f), numbers(n, 8, -3e38f, 3e38f)}) {
      if (n > 7) values[n / 2] = -infinity, values[3] = infinity, values[4] = values[5] = 0;
      auto sorted = values;
      std::ranges::sort(sorted, std::greater<>());
      for (const std::size_t k : {std::size_t{1}, n / 3, n / 2, n}) {
        if (k < 1) continue;
        CAPTURE(n);
        CAPTURE(k);
        CHECK(kernels::kth_largest(values, k) == sorted[k - 1]);
      }
    }
}

TEST_CASE("keep_reaching: those that reach the limit stay, in their order") {
  for (const std::size_t n : {0u, 1u, 15u, 16u, 17u, 50u, 333u}) {
    Found rows(n);
    rows.lower = numbers(n, 9, -2, -1);
    rows.upper = numbers(n, 10, 0, 1);
    for (std::size_t i = 0; i < n; ++i) rows.rows[i] = static_cast<std::uint32_t>(7 * i);
    if (n > 3) rows.upper[3] = 0.5f;  // the limit itself
    const Found before = rows;
    const std::size_t kept = kernels::keep_reaching(rows.from(0), n, 0.5f);
    std::size_t next = 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (before.upper[i] < 0.5f) continue;
      REQUIRE(next < kept);
      CHECK(rows.rows[next] == before.rows[i]);
      CHECK(rows.lower[next] == before.lower[i]);
      CHECK(rows.upper[next++] == before.upper[i]);
    }
    CHECK(next == kept);
  }
}

TEST_CASE("vector_lanes: as the error bounds of the tests take them") {
  CHECK(static_cast<double>(kernels::vector_lanes()) == lanes());
}
