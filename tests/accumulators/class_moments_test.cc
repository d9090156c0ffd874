// Class moments against the two-pass textbook formula, summed in long double.
#include <doctest/doctest.h>

#include "ood/accumulators/class_moments.h"
#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

namespace {

using MatrixL = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;

struct Expected {
  MatrixL means, within, total;
};

Expected two_pass(const test::Synthetic& data, Index classes) {
  const MatrixL z = data.features.cast<long double>();
  const auto n = static_cast<long double>(z.rows());
  Expected e{MatrixL::Zero(classes, z.cols()), MatrixL::Zero(z.cols(), z.cols()),
             MatrixL::Zero(z.cols(), z.cols())};
  std::vector<long double> counts(static_cast<std::size_t>(classes), 0);
  for (Index i = 0; i < z.rows(); ++i) {
    const auto c = data.labels[static_cast<std::size_t>(i)];
    e.means.row(c) += z.row(i);
    counts[static_cast<std::size_t>(c)] += 1;
  }
  for (Index c = 0; c < classes; ++c) e.means.row(c) /= counts[static_cast<std::size_t>(c)];
  const auto mu = (z.colwise().sum() / n).eval();
  for (Index i = 0; i < z.rows(); ++i) {
    const auto within = (z.row(i) - e.means.row(data.labels[static_cast<std::size_t>(i)])).eval();
    const auto total = (z.row(i) - mu).eval();
    e.within += within.transpose() * within / n;
    e.total += total.transpose() * total / n;
  }
  return e;
}

double relative(const MatrixD& got, const MatrixL& want) {
  return static_cast<double>((got.cast<long double>() - want).norm() / want.norm());
}

ClassMoments moments_of(const test::Synthetic& data, Index classes, const Exec& exec = {},
                        Index batch_rows = 16'384) {
  MemorySource source(data.batch(), &data.head, batch_rows);
  return reduce(source, ClassMoments(classes, data.features.cols()), exec);
}

}  // namespace

TEST_CASE("class_moments: agrees with the two-pass formula") {
  const auto data = test::make_synthetic(9'001, 17, 5, 3);
  const auto moments = moments_of(data, 5);
  const auto want = two_pass(data, 5);
  CHECK(moments.rows() == 9'001);
  CHECK(moments.count(0) == 1'801);
  CHECK(moments.count(4) == 1'800);
  CHECK(relative(moments.means(), want.means) < 1e-13);
  CHECK(relative(moments.within_covariance(), want.within) < 1e-12);
  CHECK(relative(moments.total_covariance(), want.total) < 1e-12);
}

TEST_CASE("class_moments: nothing is lost where means are far from 0") {
  auto data = test::make_synthetic(6'000, 8, 3, 4);
  data.features.array() += 1000.0f;  // uncentred squares would lose 6 of 16 digits
  const auto moments = moments_of(data, 3);
  const auto want = two_pass(data, 3);
  CHECK(relative(moments.within_covariance(), want.within) < 1e-12);
}

TEST_CASE("class_moments: merged halves equal the whole to 1e-10, also by way of bytes") {
  const auto data = test::make_synthetic(9'001, 17, 5, 5);
  const Batch all = data.batch();
  const auto fit = [&](Index begin, Index count) {
    MemorySource source(all.slice(begin, count), &data.head);
    return reduce(source, ClassMoments(5, 17));
  };
  const auto whole = fit(0, 9'001);
  for (const Index cut : {1, 3, 4'096, 5'000, 9'000}) {
    CAPTURE(cut);
    auto merged = fields_from_bytes<ClassMoments>(fields_to_bytes(fit(0, cut)));
    merged.merge(fields_from_bytes<ClassMoments>(fields_to_bytes(fit(cut, 9'001 - cut))));
    CHECK(merged.rows() == 9'001);
    CHECK(relative(merged.means(), whole.means().cast<long double>()) < 1e-10);
    CHECK(relative(merged.within_covariance(), whole.within_covariance().cast<long double>()) <
          1e-10);
    CHECK(relative(merged.total_covariance(), whole.total_covariance().cast<long double>()) <
          1e-10);
  }
}

TEST_CASE("class_moments: merged on any number of threads, to the bit") {
  const auto data = test::make_synthetic(900, 100, 5, 6);  // wider than the parts that threads take
  const Batch all = data.batch();
  const auto merged = [&](int threads) {
    ClassMoments total(5, 100), later(5, 100);
    total.add(all.slice(0, 400));
    later.add(all.slice(400, 500));
    total.merge(later, {.threads = threads});
    return total;
  };
  const ClassMoments one = merged(1);
  CHECK(relative(one.within_covariance(), two_pass(data, 5).within) < 1e-12);
  for (const int threads : {2, 3, 7})
    CHECK(merged(threads).within_covariance() == one.within_covariance());
}

TEST_CASE("class_moments: classes that one half does not have") {
  auto data = test::make_synthetic(1'000, 4, 2, 6);
  std::fill(data.labels.begin(), data.labels.begin() + 500, 0);
  std::fill(data.labels.begin() + 500, data.labels.end(), 1);
  const Batch all = data.batch();
  ClassMoments first(2, 4), second(2, 4), none(2, 4);
  first.add(all.slice(0, 500));
  second.add(all.slice(500, 500));
  first.merge(none);
  none.merge(first);
  none.merge(second);
  CHECK(relative(none.within_covariance(), two_pass(data, 2).within) < 1e-12);
  CHECK_THROWS_WITH_AS(first.means(), "class 1 has 0 rows, expected 1 or more", std::domain_error);
}
