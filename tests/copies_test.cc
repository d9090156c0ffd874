// What detectors of several copies share.
#include "ood/copies.h"

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

#include "synthetic.h"

using namespace ood;

namespace {

Tensor3View view_of(const Tensor3& copies) { return test::Everything::view_of(copies); }

}  // namespace

TEST_CASE("copies: rows of a copy, also of a slice") {
  const auto data = test::make_everything(7, 4, 3, 5);
  const Batch part = data.batch().slice(2, 3);
  for (Index k = 0; k < 5; ++k) {
    const MatrixView rows = copy_rows(*part.copy_features, k);
    REQUIRE(rows.rows() == 3);
    REQUIRE(rows.cols() == 4);
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 4; ++j) CHECK(rows(i, j) == data.copy_features(k, i + 2, j));
  }
}

TEST_CASE("copies: the mean does not overflow, and keeps NaN") {
  Tensor3 copies = {{{3e38f, 1}, {1, 2}}, {{3e38f, 4}, {std::nanf(""), 5}}};
  Matrix mean(2, 2);
  mean_of_copies(view_of(copies), {mean.data(), 2, 2});
  CHECK(mean(0, 0) == 3e38f);
  CHECK(mean(0, 1) == 2.5f);
  CHECK(std::isnan(mean(1, 0)));
  CHECK(mean(1, 1) == 3.5f);
}

TEST_CASE("copies: probabilities near 1 keep what they lack") {
  const Tensor3 copies = {{{0, 60}}, {{0, 61}}};
  CopyProbabilities row;
  REQUIRE(row.set(view_of(copies), 0));
  CHECK(row.top() == 1);
  const double a = std::exp(-60.0), b = std::exp(-61.0);
  CHECK(row.log_mean(1) == doctest::Approx(-(a + b) / 2).epsilon(1e-12));
  CHECK(row.log_mean(0) == doctest::Approx(std::log((a + b) / 2)).epsilon(1e-12));
  CHECK(row.deviation(0, 1) == doctest::Approx((b - a) / 2).epsilon(1e-12));
  CHECK(row.deviation(1, 0) == doctest::Approx((b - a) / 2).epsilon(1e-12));
}

TEST_CASE("copies: no row with NaN or infinity has probabilities") {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    const Tensor3 copies = {{{0, 1}}, {{bad, 1}}};
    CHECK_FALSE(CopyProbabilities().set(view_of(copies), 0));
  }
}

TEST_CASE("copies: too few of them") {
  const Tensor3 one = {{{0, 1}}};
  CHECK_NOTHROW(require_copies(view_of(one), "copies/logits", 1));
  CHECK_THROWS_WITH_AS(require_copies(view_of(one), "copies/logits", 2),
                       "copies/logits has K = 1 copies, expected 2 or more", std::domain_error);
}
