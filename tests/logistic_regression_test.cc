// Against scikit-learn (tests/reference/make_reference.py), by hand, and what must be true anyway.
#include "ood/logistic_regression.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

#include "synthetic.h"

using namespace ood;

TEST_CASE("logistic_regression: as scikit-learn") {
  const auto reference = nlohmann::json::parse(
      std::ifstream(OOD_SOURCE_DIR "/tests/reference/logistic_regression.json"));
  REQUIRE(reference.at("cases").size() > 4);
  for (const auto& test : reference.at("cases")) {
    const auto name = test.at("name").get<std::string>();
    CAPTURE(name);
    const auto rows = test.at("x").get<std::vector<std::vector<double>>>();
    MatrixD x(std::ssize(rows), std::ssize(rows[0]));
    for (Index i = 0; i < x.rows(); ++i)
      for (Index j = 0; j < x.cols(); ++j)
        x(i, j) = rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
    const auto labels = test.at("labels").get<std::vector<std::int64_t>>();
    const auto weights = test.at("sample_weights").get<std::vector<double>>();
    const auto found =
        fit_logistic_regression(x, labels, weights, {.c = test.at("c").get<double>()});
    CHECK(found.converged);
    CHECK(found.iterations < 30);
    const auto want = test.at("weight").get<std::vector<double>>();
    const double intercept = test.at("intercept");
    double size = std::abs(intercept);
    for (const double w : want) size = std::max(size, std::abs(w));
    for (Index j = 0; j < x.cols(); ++j)
      CHECK(std::abs(found.weight[j] - want[static_cast<std::size_t>(j)]) <= 1e-7 * size);
    CHECK(std::abs(found.intercept - intercept) <= 1e-7 * size);
  }
}

TEST_CASE("logistic_regression: one feature, symmetric") {
  // x = -1, 1 with labels 0, 1: b = 0, and v = 2 C / (1 + exp(v)); C chosen for v = 1.5
  const MatrixD x = (MatrixD(2, 1) << -1, 1).finished();
  const std::vector<std::int64_t> labels = {0, 1};
  const auto found = fit_logistic_regression(x, labels, {}, {.c = 1.5 * (1 + std::exp(1.5)) / 2});
  CHECK(found.converged);
  CHECK(found.weight[0] == doctest::Approx(1.5).epsilon(1e-9));
  CHECK(std::abs(found.intercept) < 1e-9);
}

TEST_CASE("logistic_regression: without a signal the intercept is the log odds") {
  const MatrixD x = MatrixD::Constant(4, 2, 7);
  const std::vector<std::int64_t> labels = {0, 1, 1, 1};
  const auto found = fit_logistic_regression(x, labels);
  CHECK(found.converged);
  CHECK(found.weight.norm() < 1e-8);
  CHECK(found.intercept == doctest::Approx(std::log(3.0)).epsilon(1e-8));
}

TEST_CASE("logistic_regression: separable rows, even far apart, have a minimum") {
  const MatrixD x = (MatrixD(4, 1) << 1000, 1001, 3000, 3001).finished();
  const std::vector<std::int64_t> labels = {0, 0, 1, 1};
  for (const double c : {1e-6, 1.0, 1e6}) {
    CAPTURE(c);
    const auto found = fit_logistic_regression(x, labels, {}, {.c = c});
    CHECK(found.converged);
    CHECK(std::isfinite(found.intercept));
    CHECK(-found.intercept / found.weight[0] == doctest::Approx(2000.5).epsilon(1e-6));
  }
}

TEST_CASE("logistic_regression: a weight of 2 is a row twice, and one of 0 is no row") {
  const auto data = test::make_synthetic(200, 5, 2, 3);
  const MatrixD x = data.features.cast<double>();
  MatrixD twice(300, 5);
  twice << x, x.topRows(100);
  std::vector<std::int64_t> labels, twice_labels;
  for (Index i = 0; i < 300; ++i) {
    const auto label = data.labels[static_cast<std::size_t>(i % 200)];
    twice_labels.push_back(i % 200 % 7 == 0 ? 1 - label : label);  // not separable
  }
  labels.assign(twice_labels.begin(), twice_labels.begin() + 200);
  std::vector<double> weights(200, 1);
  std::fill_n(weights.begin(), 100, 2);
  const auto a = fit_logistic_regression(x, labels, weights);
  const auto b = fit_logistic_regression(twice, twice_labels);
  CHECK((a.weight - b.weight).norm() <= 1e-7 * b.weight.norm());
  CHECK(a.intercept == doctest::Approx(b.intercept).epsilon(1e-7));

  std::fill_n(weights.begin(), 100, 0);
  std::fill_n(weights.begin() + 100, 100, 1);
  const auto c = fit_logistic_regression(x, labels, weights);
  const auto d = fit_logistic_regression(x.bottomRows(100), std::span(labels).subspan(100));
  CHECK((c.weight - d.weight).norm() <= 1e-7 * d.weight.norm());
}

TEST_CASE("logistic_regression: it says when it stopped early") {
  const auto data = test::make_synthetic(100, 5, 2, 3);
  const auto found =
      fit_logistic_regression(data.features.cast<double>(), data.labels, {}, {.max_iterations = 1});
  CHECK(found.iterations == 1);
  CHECK_FALSE(found.converged);
}

TEST_CASE("logistic_regression: errors") {
  const MatrixD x = (MatrixD(2, 1) << 1, 2).finished();
  const std::vector<std::int64_t> labels = {0, 1}, ones = {1, 1}, twos = {0, 2}, three = {0, 1, 1};
  const std::vector<double> negative = {1, -1}, none_of_1 = {1, 0}, one = {1};
  MatrixD bad = x;
  bad(1, 0) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH_AS(fit_logistic_regression(MatrixD(0, 3), {}),
                       "x has 0 rows, expected 1 or more", std::domain_error);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, ones),
                       "no row is labelled 0, expected rows of both 0 and 1", std::domain_error);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, labels, none_of_1),
                       "no row is labelled 1, expected rows of both 0 and 1", std::domain_error);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, three),
                       "labels has 3 entries, expected 2 as x has rows", std::invalid_argument);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, twos), "labels has 2 at row 1, expected 0 or 1",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, labels, one),
                       "sample_weights has 1 entries, expected 2 as x has rows",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, labels, negative),
                       "sample_weights has -1 at row 1, expected 0 or more", std::invalid_argument);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(bad, labels),
                       "x has nan at row 1, column 0, expected finite numbers",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, labels, {}, {.c = 0}),
                       "c has 0, expected a number above 0", std::invalid_argument);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, labels, {}, {.tolerance = -1}),
                       "tolerance has -1, expected 0 or more", std::invalid_argument);
  CHECK_THROWS_WITH_AS(fit_logistic_regression(x, labels, {}, {.max_iterations = 0}),
                       "max_iterations has 0, expected 1 or more", std::invalid_argument);
}
