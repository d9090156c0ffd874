#include <doctest/doctest.h>

#include <cmath>

#include "ood/accumulators/log_sum_exp.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

namespace {

struct Reference {
  long double value;      // log sum_i w_i
  long double effective;  // (sum_i w_i)^2 / sum_i w_i^2
};

/// Of w_i = exp(scale_i dots_ij + shift_i) in long double, largest term first taken out.
Reference reference(const Matrix& dots, const std::vector<float>& scale,
                    const std::vector<float>& shift, Index j) {
  std::vector<long double> terms;
  for (Index i = 0; i < dots.rows(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    terms.push_back(static_cast<long double>(scale[at]) * dots(i, j) + shift[at]);
  }
  const long double max = *std::ranges::max_element(terms);
  long double sum = 0, squares = 0;
  for (const long double term : terms) {
    sum += std::exp(term - max);
    squares += std::exp(2 * (term - max));
  }
  return {max + std::log(sum), sum * sum / squares};
}

}  // namespace

TEST_CASE("log_sum_exp: columns, single terms and merging agree with long double") {
  const Matrix dots = test::normal_matrix(300, 7, 1);
  // 0.5: many terms count; 400, -2000: one or two do, far below what exp can hold
  for (const float spread : {0.5f, 400.0f}) {
    const std::vector<float> scale(300, spread), shift(300, -5 * spread);
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
      for (Index j = 0; j < 7; ++j)
        single.add(j, static_cast<double>(spread) * (static_cast<double>(dots(i, j)) - 5));
    for (Index j = 0; j < 7; ++j) {
      const Reference expected = reference(dots, scale, shift, j);
      const auto want = static_cast<double>(expected.value);
      const auto terms = static_cast<double>(expected.effective);
      for (const LogSumExp& sums : {whole, first, single})
        CHECK(sums.effective_terms()[j] == doctest::Approx(terms).epsilon(1e-3));
      CHECK(whole.values()[j] == doctest::Approx(want).epsilon(1e-6));
      CHECK(first.values()[j] == doctest::Approx(want).epsilon(1e-6));
      CHECK(single.values()[j] == doctest::Approx(want).epsilon(1e-12));
    }
  }
}

TEST_CASE("log_sum_exp: the standard error of the log of a mean, by hand") {
  // w = 1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) / 3, of the mean a quarter of that
  LogSumExp sums(1);
  for (const double w : {1.0, 2.0, 3.0, 6.0}) sums.add(0, std::log(w));
  CHECK(sums.standard_error(VectorD::Constant(1, 4))[0] ==
        doctest::Approx(std::sqrt(14.0 / 3 / 4) / 3));
  CHECK(sums.effective_terms()[0] == doctest::Approx(144.0 / 50));
  LogSumExp one(1);
  one.add(0, 5);
  CHECK(std::isnan(one.standard_error(VectorD::Constant(1, 1))[0]));
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
