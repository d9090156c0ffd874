// The Weibull distribution of a tail, where it is known in closed form.
#include "ood/weibull_tail.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <stdexcept>

using namespace ood;

TEST_CASE("weibull_tail: two distances 1 apart, by hand") {
  // Beside the shift of 10000 the distribution is that of Gumbel, F(x) = 1 - exp(-exp((x - m) t)),
  // and its likelihood for x = 0, 1 is greatest where t tanh(t / 2) = 2 and exp(m t) = (1 + exp(t))
  // / 2: t = 2.399357. The shift of 10000 leaves 1e-4.
  constexpr double t = 2.399357;
  const auto tail = WeibullTail::fit(std::array{4.0, 5.0});
  CHECK(tail.smallest == 4);
  CHECK(tail.shape == doctest::Approx(10'000 * t).epsilon(2e-4));
  for (const double x : {-2.0, 0.0, 0.5, 1.0, 1.5})
    CHECK(tail.cdf(4 + x) ==
          doctest::Approx(1 - std::exp(-2 * std::exp(t * x) / (1 + std::exp(t)))).epsilon(1e-3));
  CHECK(tail.cdf(50) == 1);
  CHECK(tail.cdf(4 - 10'000) == 0);
  CHECK(tail.cdf(-1e9) == 0);
}

TEST_CASE("weibull_tail: distances far beyond the shift") {
  // l = log y = log 10000 and log (10000 + 1e9): apart by h = 11.513, shape t / h as above
  const auto tail = WeibullTail::fit(std::array{1e9, 2e9});
  CHECK(tail.shape == doctest::Approx(2.399357 / std::log1p(1e5)).epsilon(1e-6));
}

TEST_CASE("weibull_tail: distances that are all the same") {
  CHECK_THROWS_WITH_AS(WeibullTail::fit(std::array{2.5, 2.5, 2.5}),
                       "tail of 3 distances has 2.5 alone, expected 2 different ones",
                       std::domain_error);
}
