// What is gaussian_density's own, beside the reference values (detector_reference_test.cc) and the
// contract.
#include "ood/detectors/gaussian_density.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

using Options = GaussianDensity::Options;
constexpr auto kTied = GaussianDensity::Covariance::tied;
constexpr auto kUniform = GaussianDensity::ClassPrior::uniform;

Batch batch_of(const Matrix& z, const std::vector<std::int64_t>& labels = {}) {
  Batch batch;
  batch.features = z;
  if (!labels.empty()) batch.labels = labels;
  return batch;
}

GaussianDensity fitted(const Options& options, const Batch& rows) {
  GaussianDensity detector(options);
  MemorySource source(rows);
  detector.fit(source);
  return detector;
}

/// Class 0: mean 0, three rows; class 1: mean 10, six rows.
struct Line {
  Matrix z{{-1}, {0}, {1}, {8}, {8}, {10}, {10}, {12}, {12}};
  std::vector<std::int64_t> labels = {0, 0, 0, 1, 1, 1, 1, 1, 1};
  Batch batch() const { return batch_of(z, labels); }
};

double normal(double z, double mean, double variance) {
  return std::exp(-(z - mean) * (z - mean) / (2 * variance)) /
         std::sqrt(2 * std::numbers::pi * variance);
}

}  // namespace

TEST_CASE("gaussian_density: one dimension by hand") {
  const Line line;
  const Matrix queries{{0.5}, {4}, {9}, {-3}};
  const auto check = [&](const Options& options, double prior, double first, double second) {
    const auto scores = fitted(options, line.batch()).score(batch_of(queries));
    for (Index i = 0; i < queries.rows(); ++i) {
      const double z = queries(i, 0);
      const double density = prior * normal(z, 0, first) + (1 - prior) * normal(z, 10, second);
      CHECK(scores[static_cast<std::size_t>(i)] ==
            doctest::Approx(std::log(density)).epsilon(1e-6));
    }
  };
  const double first = 2.0 / 2, second = 16.0 / 5, tied = 18.0 / 9;
  check({}, 3.0 / 9, first, second);
  check({.class_prior = kUniform}, 0.5, first, second);
  check({.ridge = 0.5}, 3.0 / 9, 1.5 * first, 1.5 * second);
  check({.covariance = kTied}, 3.0 / 9, tied, tied);
  check({.covariance = kTied, .class_prior = kUniform}, 0.5, tied, tied);
}

TEST_CASE("gaussian_density: state and diagnostics") {
  const Line line;
  const auto per_class = fitted({}, line.batch());
  CHECK(per_class.log_determinants()[1] == doctest::Approx(std::log(3.2)));
  const auto found = per_class.diagnostics();
  CHECK(found.per_class[0].values == std::vector<double>{3, 6});
  CHECK(fitted({.covariance = kTied}, line.batch()).log_determinants().size() == 1);
}

TEST_CASE("gaussian_density: tied, features that are dead count for nothing") {
  const auto data = test::make_synthetic(300, 5, 3, 2);
  Matrix wide = Matrix::Zero(300, 7);
  wide.leftCols(5) = data.features;
  const auto plain = fitted({.covariance = kTied}, data.batch());
  const auto dead = fitted({.covariance = kTied}, batch_of(wide, data.labels));
  CHECK(dead.rank() == 5);
  const auto expected = plain.score(data.batch()), scores = dead.score(batch_of(wide));
  for (std::size_t i = 0; i < scores.size(); ++i)
    CHECK(scores[i] == doctest::Approx(expected[i]).epsilon(1e-5));
}

TEST_CASE("gaussian_density: a singular class covariance is an error that says whose") {
  auto data = test::make_synthetic(60, 6, 3, 2);
  for (Index i = 0; i < 60; ++i)  // class 1 has 4 rows
    if (i % 3 == 1 && i > 10) data.labels[static_cast<std::size_t>(i)] = 2;
  CHECK_THROWS_WITH_AS(fitted({}, data.batch()),
                       "gaussian_density.fit: class 1 has 4 rows and a covariance of rank 3, "
                       "expected rank D = 6: more rows, a larger ridge, or covariance = tied",
                       std::domain_error);
  CHECK(fitted({.ridge = 0.01}, data.batch()).fitted());
  CHECK(fitted({.covariance = kTied}, data.batch()).fitted());

  for (Index i = 0; i < 60; ++i)  // one row: nothing for a ridge to be relative to
    if (i > 1 && data.labels[static_cast<std::size_t>(i)] == 1)
      data.labels[static_cast<std::size_t>(i)] = 2;
  CHECK_THROWS_WITH_AS(fitted({.ridge = 0.01}, data.batch()),
                       "gaussian_density.fit: class 1 has 1 rows and a covariance of rank 0, "
                       "expected rank D = 6: more rows, a larger ridge, or covariance = tied",
                       std::domain_error);
}

TEST_CASE("gaussian_density: a class without rows is an error that names it") {
  auto data = test::make_synthetic(60, 2, 3, 2);
  std::ranges::replace(data.labels, std::int64_t{1}, std::int64_t{2});
  for (const auto covariance : {GaussianDensity::Covariance::per_class, kTied})
    CHECK_THROWS_WITH_AS(fitted({.covariance = covariance}, data.batch()),
                         "gaussian_density.fit: class 1 has 0 rows, expected 1 or more",
                         std::domain_error);
}

TEST_CASE("gaussian_density: tied, features that do not vary within the classes are an error") {
  const Matrix z{{1, 0}, {1, 0}, {0, 1}, {0, 1}};
  CHECK_THROWS_WITH_AS(fitted({.covariance = kTied}, batch_of(z, {0, 0, 1, 1})),
                       "gaussian_density.fit: the covariance is 0, expected features that vary",
                       std::domain_error);
}

TEST_CASE("gaussian_density: features beyond float32 are an error") {
  Line line;
  line.z *= 1e-40f;
  for (const auto covariance : {GaussianDensity::Covariance::per_class, kTied})
    CHECK_THROWS_WITH_AS(
        fitted({.covariance = covariance}, line.batch()),
        "gaussian_density.fit: features vary too little for float32, expected them to be scaled up",
        std::domain_error);
}

TEST_CASE("gaussian_density: tied covariances save and load") {
  const auto data = test::make_synthetic(200, 5, 3, 2);
  const auto detector = fitted({.covariance = kTied, .class_prior = kUniform}, data.batch());
  const auto loaded = detector_from_bytes(to_bytes(detector));
  CHECK(loaded->score(data.batch()) == detector.score(data.batch()));
}

TEST_CASE("gaussian_density: a row with NaN scores NaN where tied, too") {
  auto data = test::make_synthetic(200, 5, 3, 2);
  const auto detector = fitted({.covariance = kTied}, data.batch());
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    data.features(7, 2) = bad;
    const auto scores = detector.score(data.batch());
    for (std::size_t i = 0; i < scores.size(); ++i) CHECK(std::isnan(scores[i]) == (i == 7));
  }
}
