// Rows at unit length (mahalanobis++) and the errors of mahalanobis and relative_mahalanobis,
// beside the reference values (detector_reference_test.cc) and the contract.
#include "ood/detectors/mahalanobis.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ood/detectors/relative_mahalanobis.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

Batch batch_of(const Matrix& z, const std::vector<std::int64_t>& labels) {
  Batch batch;
  batch.features = z;
  batch.labels = labels;
  return batch;
}

template <class T>
std::vector<float> scores_of(const typename T::Options& options, const Batch& rows,
                             const Matrix& queries) {
  T detector(options);
  MemorySource source(rows);
  detector.fit(source);
  Batch batch;
  batch.features = queries;
  return detector.score(batch);
}

}  // namespace

TEST_CASE("mahalanobis: directions by hand") {
  // At unit length (+-0.8, 0.6) of class 0 and (+-0.6, -0.8) of class 1: means (0, 0.6), (0, -0.8),
  // S = diag((0.64 + 0.36) / 2, 0), whose pseudo-inverse is diag(2, 0)
  Matrix z(4, 2), queries(3, 2);
  z << 8, 6, -16, 12, 3, -4, -6, -8;  // powers of two: no rounding where S is 0
  queries << 0, 5, 7, 0, 0, 0;
  const std::vector<std::int64_t> labels = {0, 0, 1, 1};
  const auto rows = batch_of(z, labels);
  const auto scores = scores_of<Mahalanobis>({.normalize = true}, rows, queries);
  CHECK(scores[0] == doctest::Approx(0).epsilon(1e-5));
  CHECK(scores[1] == doctest::Approx(-2).epsilon(1e-5));
  CHECK(scores[2] == doctest::Approx(0).epsilon(1e-5));  // a row of zeros stays zero
}

TEST_CASE_TEMPLATE("mahalanobis: at unit length, the size of a row does not matter", T, Mahalanobis,
                   RelativeMahalanobis) {
  auto data = test::make_synthetic(300, 9, 4, 3);
  const auto expected = scores_of<T>({.normalize = true}, data.batch(), data.features);
  const Matrix queries = data.features;
  for (Index i = 0; i < 300; ++i) data.features.row(i) *= std::ldexp(1.0f, static_cast<int>(i % 9));
  CHECK(scores_of<T>({.normalize = true}, data.batch(), data.features) == expected);
  CHECK(scores_of<T>({}, data.batch(), queries) != expected);
}

TEST_CASE_TEMPLATE("mahalanobis: at unit length, rows of zeros give numbers", T, Mahalanobis,
                   RelativeMahalanobis) {
  auto data = test::make_synthetic(300, 9, 4, 3);
  for (const Index row : {0, 7, 100}) data.features.row(row).setZero();
  for (const float score : scores_of<T>({.normalize = true}, data.batch(), data.features))
    CHECK(std::isfinite(score));
}

TEST_CASE("mahalanobis: the presets are normalize = true") {
  for (const std::string name : {"mahalanobis", "relative_mahalanobis"})
    for (const OptionInfo& option : make_detector(name, {{"preset", name + "++"}})->options())
      if (option.name == "normalize") CHECK(std::get<bool>(option.value));
}

TEST_CASE_TEMPLATE("mahalanobis: features that do not vary within the classes are an error", T,
                   Mahalanobis, RelativeMahalanobis) {
  Matrix z(4, 2);
  z << 1, 0, 1, 0, 0, 1, 0, 1;
  const std::vector<std::int64_t> labels = {0, 0, 1, 1};
  const auto rows = batch_of(z, labels);
  const std::string message =
      std::string(T::kName) + ".fit: the covariance is 0, expected features that vary";
  CHECK_THROWS_WITH_AS(scores_of<T>({}, rows, z), message.c_str(), std::domain_error);
  z.topRows(1) *= 3;  // at unit length the same
  CHECK_THROWS_WITH_AS(scores_of<T>({.normalize = true}, rows, z), message.c_str(),
                       std::domain_error);
}

TEST_CASE_TEMPLATE("mahalanobis: a class without rows is an error that names it", T, Mahalanobis,
                   RelativeMahalanobis) {
  const Matrix z = test::normal_matrix(4, 2, 1);
  const std::vector<std::int64_t> labels = {0, 0, 2, 2};
  const auto rows = batch_of(z, labels);
  const std::string message =
      std::string(T::kName) + ".fit: class 1 has 0 rows, expected 1 or more";
  CHECK_THROWS_WITH_AS(scores_of<T>({}, rows, z), message.c_str(), std::domain_error);
}
