// What detectors of several copies share.
#include "ood/copies.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "kernels/bodies/copies.h"
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

TEST_CASE_TEMPLATE("copies: probabilities near 1 keep what they lack", Lanes, kernels::HostLanes<1>,
                   kernels::HostLanes<32>) {
  const Tensor3 copies = {{{0, 60}}, {{0, 61}}};
  const kernels::bodies::CopiesOf logits{copies.data(), 2, 2, 2, 1, 2};
  std::vector<double> memory(
      static_cast<std::size_t>(kernels::bodies::CopyProbabilities::entries(2, 2)));
  kernels::bodies::CopyProbabilities row;
  row.set(logits, 0, memory.data(), Lanes());
  CHECK(row.top == 1);
  const double a = std::exp(-60.0), b = std::exp(-61.0);
  CHECK(row.log_mean(1) == doctest::Approx(-(a + b) / 2).epsilon(1e-12));
  CHECK(row.log_mean(0) == doctest::Approx(std::log((a + b) / 2)).epsilon(1e-12));
  CHECK(row.deviation(0, 1) == doctest::Approx((b - a) / 2).epsilon(1e-12));
  CHECK(row.deviation(1, 0) == doctest::Approx((b - a) / 2).epsilon(1e-12));
}

TEST_CASE("copies: no row with NaN or infinity has a score, and all others have") {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    const Tensor3 copies = {{{0, 1}, {0, 1}}, {{0, 1}, {bad, 1}}};
    const Matrix z = Matrix::Ones(2, 2);
    std::vector<float> out(2);
    const auto check = [&] {
      CHECK(std::isfinite(out[0]));
      CHECK(std::isnan(out[1]));
    };
    using enum ProbabilityStatistic;
    for (const auto statistic : {log_largest_mean, negative_entropy_of_mean,
                                 negative_mutual_information, negative_variance}) {
      score_probabilities(view_of(copies), statistic, out);
      check();
    }
    for (const auto statistic :
         {CosineStatistic::mean, CosineStatistic::smallest, CosineStatistic::negative_variance}) {
      score_cosines(z, view_of(copies), statistic, out);
      check();
    }
    variation_ratio(view_of(copies), out);
    check();
    mean_negative_entropy(view_of(copies), out);
    check();
    Matrix aggregated(2, 2);
    cross_max(view_of(copies), 0, {aggregated.data(), 2, 2});
    CHECK(aggregated.row(0).allFinite());
    CHECK(std::isnan(aggregated(1, 0)));
    CHECK(std::isnan(aggregated(1, 1)));
  }
}

TEST_CASE("copies: cross_max is the k-th largest, or the median, of any number of members") {
  constexpr Index kRows = 3, kClasses = 37;
  for (const Index copies : {2, 3, 6, 7}) {
    const Matrix rows = test::normal_matrix(copies * kRows, kClasses, 1);
    const Tensor3View members = copies_of_rows(rows, copies);
    Matrix out(kRows, kClasses);
    for (Index k = 0; k <= copies; ++k) {
      cross_max(members, k, {out.data(), kRows, kClasses});
      for (Index i = 0; i < kRows; ++i)
        for (Index c = 0; c < kClasses; ++c) {
          std::vector<double> sorted;
          for (Index m = 0; m < copies; ++m) {
            const auto f = copy_rows(members, m).row(i);
            sorted.push_back(static_cast<double>(f[c]) - static_cast<double>(f.maxCoeff()));
          }
          std::ranges::sort(sorted, std::greater());
          const auto at = [&](Index j) { return sorted[static_cast<std::size_t>(j)]; };
          const double middle = (at((copies - 1) / 2) + at(copies / 2)) / 2;
          CHECK(out(i, c) == static_cast<float>((k == 0 ? middle : at(k - 1)) - at(0)));
        }
    }
  }
}

TEST_CASE("copies: too few of them") {
  const Tensor3 one = {{{0, 1}}};
  CHECK_NOTHROW(require_copies(view_of(one), "copies/logits", 1));
  CHECK_THROWS_WITH_AS(require_copies(view_of(one), "copies/logits", 2),
                       "copies/logits has K = 1 copies, expected 2 or more", std::domain_error);
}
