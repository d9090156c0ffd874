#include "ranking.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

using Values = std::vector<double>;
using Limits = std::numeric_limits<double>;

constexpr std::size_t kLarge = 100000;  // 800 kB: beyond what the sort holds in one pass

/// What the order may go wrong at, and numbers beside it.
const Values kSpecial{-Limits::infinity(),
                      -Limits::max(),
                      -1,
                      -Limits::min(),
                      -Limits::denorm_min(),
                      -0.0,
                      0.0,
                      Limits::denorm_min(),
                      Limits::min(),
                      1,
                      std::nextafter(1, 2),
                      Limits::max(),
                      Limits::infinity()};

/// Arrays of n scores, each in another order or with other ties.
std::vector<Values> arrays(std::size_t n) {
  std::mt19937_64 random(20);
  std::normal_distribution<double> normal;
  Values drawn(n), special(n), mixed(n), few(n), bits(n);
  for (std::size_t i = 0; i < n; ++i) {
    drawn[i] = normal(random);
    special[i] = kSpecial[random() % kSpecial.size()];
    mixed[i] = random() % 10 == 0 ? special[i] : drawn[i];
    few[i] = static_cast<double>(random() % 3);
    do bits[i] = std::bit_cast<double>(random());
    while (std::isnan(bits[i]));
  }
  Values ascending = drawn;
  std::ranges::sort(ascending);
  const Values descending(ascending.rbegin(), ascending.rend());
  return {drawn,
          special,
          mixed,
          few,
          bits,
          ascending,
          descending,
          Values(n, 0.5),
          Values(n, -0.0),
          Values(n, Limits::infinity()),
          Values(n, -Limits::infinity())};
}

}  // namespace

TEST_CASE("order_key: the order of float64") {
  for (const double a : kSpecial)
    for (const double b : kSpecial) {
      CAPTURE(a);
      CAPTURE(b);
      CHECK((ood::order_key(a) < ood::order_key(b)) == (a < b));
      CHECK((ood::order_key(a) == ood::order_key(b)) == (a == b));
    }
}

TEST_CASE("sorted_order_keys: as std::sort has the scores") {
  for (const std::size_t n :
       {0u, 1u, 2u, 3u, 7u, 8u, 9u, 16u, 17u, 63u, 64u, 65u, 255u, 256u, 257u, 1000u, 5000u})
    for (const Values& scores : arrays(n)) {
      Values sorted = scores;
      std::ranges::sort(sorted);
      std::vector<std::int64_t> expected(n);
      std::ranges::transform(sorted, expected.begin(), ood::order_key);
      CAPTURE(n);
      CHECK(ood::sorted_order_keys(scores) == expected);
    }
}

TEST_CASE("sorted_order_keys: more than the caches hold") {
  for (const Values& scores : arrays(kLarge)) {
    Values sorted = scores;
    std::ranges::sort(sorted);
    std::vector<std::int64_t> expected(kLarge);
    std::ranges::transform(sorted, expected.begin(), ood::order_key);
    CHECK((ood::sorted_order_keys(scores) == expected));
  }
}

TEST_CASE("ranking: many scores, by closed form") {
  // Odd and even numbers: the i-th ID score beats i + 1 of n, so (n + 1) / (2 n) of all pairs are in
  // order; the lowest of the 95,000 highest ID scores, 2 * 5,000 + 1, is below 94,999 OOD scores
  Values id(kLarge), ood(kLarge);
  for (std::size_t i = 0; i < kLarge; ++i) {
    id[i] = static_cast<double>(2 * i + 1);
    ood[i] = static_cast<double>(2 * i);
  }
  std::mt19937_64 random(21);
  std::ranges::shuffle(id, random);
  std::ranges::shuffle(ood, random);
  const double n = kLarge;
  CHECK(ood::auroc(id, ood) == (n + 1) / (2 * n));
  CHECK(ood::fpr_at_tpr(id, ood, 0.95) == 94999 / n);
  CHECK(ood::fpr_at_tpr_ood(id, ood, 0.95) == 94999 / n);
}

TEST_CASE("ranking: ties of infinities and zeros are one entry") {
  const double inf = Limits::infinity();
  const auto ranking = ood::ranking("f", Values{inf, 0.0, -0.0, -inf, inf}, Values{-0.0, inf, 1});
  const std::vector<std::pair<std::int64_t, std::int64_t>> expected{{2, 1}, {0, 1}, {2, 1}, {1, 0}};
  REQUIRE(ranking.ties.size() == expected.size());
  for (std::size_t t = 0; t < expected.size(); ++t) {
    CHECK(ranking.ties[t].positives == expected[t].first);
    CHECK(ranking.ties[t].negatives == expected[t].second);
  }
}
