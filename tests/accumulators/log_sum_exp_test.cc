#include <doctest/doctest.h>

#include <cmath>

#include "ood/accumulators/log_sum_exp.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

namespace {

/// log sum_i exp(scale_i dots_ij + shift_i) in long double, largest term first taken out.
long double reference(const Matrix& dots, const std::vector<float>& scale,
                      const std::vector<float>& shift, Index j) {
  std::vector<long double> terms;
  for (Index i = 0; i < dots.rows(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    terms.push_back(static_cast<long double>(scale[at]) * dots(i, j) + shift[at]);
  }
  const long double max = *std::ranges::max_element(terms);
  long double sum = 0;
  for (const long double term : terms) sum += std::exp(term - max);
  return max + std::log(sum);
}

}  // namespace

TEST_CASE("log_sum_exp: columns, single terms and merging agree with long double") {
  const Matrix dots = test::normal_matrix(300, 7, 1);
  const std::vector<float> scale(300, 400.0f),
      shift(300, -2'000.0f);  // far below what exp can hold
  LogSumExp whole(7), first(7), second(7), single(7);
  const auto rows = [&](LogSumExp& sums, Index begin, Index count) {
    const auto from = static_cast<std::size_t>(begin), size = static_cast<std::size_t>(count);
    sums.add_columns(MatrixView(dots).middle_rows(begin, count),
                     std::span(scale).subspan(from, size), std::span(shift).subspan(from, size));
  };
  rows(whole, 0, 300);
  rows(first, 0, 100);
  rows(second, 100, 200);
  first.merge(fields_from_bytes<LogSumExp>(fields_to_bytes(second)));
  for (Index i = 0; i < 300; ++i)
    for (Index j = 0; j < 7; ++j) single.add(j, 400.0 * static_cast<double>(dots(i, j)) - 2'000.0);
  for (Index j = 0; j < 7; ++j) {
    const auto want = static_cast<double>(reference(dots, scale, shift, j));
    CHECK(whole.values()[j] == doctest::Approx(want).epsilon(1e-6));
    CHECK(first.values()[j] == doctest::Approx(want).epsilon(1e-6));
    CHECK(single.values()[j] == doctest::Approx(want).epsilon(1e-12));
  }
}

TEST_CASE("log_sum_exp: no term is -infinity, and merging nothing changes nothing") {
  LogSumExp nothing(2), one(2);
  one.add(0, 1e5);
  one.merge(nothing);
  CHECK(one.values()[0] == 1e5);
  CHECK(one.values()[1] == -std::numeric_limits<double>::infinity());
  nothing.merge(one);
  CHECK(nothing.values()[0] == 1e5);
}

TEST_CASE("log_sum_exp: a sum that is not a number stays so when it is merged") {
  LogSumExp good(1), bad(1);
  good.add(0, 1.0);
  const Matrix dots = Matrix::Constant(2, 1, std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> ones(2, 1.0f);
  bad.add_columns(dots, ones, ones);
  good.merge(bad);
  CHECK(std::isnan(good.values()[0]));
}
