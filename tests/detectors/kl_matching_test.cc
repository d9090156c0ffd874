// KL matching by hand, beside the reference values and the contract.
#include "ood/detectors/kl_matching.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

namespace {

using enum KlMatching::TemplatesOf;

KlMatching fitted(const KlMatching::Options& options, const Matrix& logits,
                  const std::vector<std::int64_t>& labels) {
  Batch batch;
  batch.logits = logits;
  batch.labels = labels;
  MemorySource source(batch);
  KlMatching detector(options);
  detector.fit(source);
  return detector;
}

double score(const KlMatching& detector, const Matrix& row) {
  Batch batch;
  batch.logits = row;
  return static_cast<double>(detector.score(batch).at(0));
}

Matrix three_rows() {
  Matrix f(3, 2);
  f << std::log(3.0f), 0, std::log(9.0f), 0, 0,
      std::log(4.0f);  // (3/4, 1/4), (9/10, 1/10), (1/5, 4/5)
  return f;
}

/// KL(p, d) for p = (1/2, 1/2).
double from_uniform(double d0, double d1) { return 0.5 * std::log(0.25 / (d0 * d1)); }

}  // namespace

TEST_CASE("kl_matching: by hand") {
  const std::vector<std::int64_t> labels = {0, 1, 1};
  const Matrix uniform = Matrix::Zero(1, 2);  // predicted as class 0
  // predicted 0, 0, 1: d = (0.825, 0.175) and (0.2, 0.8); of the labels (3/4, 1/4) and (0.55, 0.45)
  CHECK(score(fitted({}, three_rows(), labels), uniform) ==
        doctest::Approx(-from_uniform(0.2, 0.8)).epsilon(1e-6));
  CHECK(score(fitted({.match = KlMatching::Match::predicted}, three_rows(), labels), uniform) ==
        doctest::Approx(-from_uniform(0.825, 0.175)).epsilon(1e-6));
  CHECK(score(fitted({.templates = label}, three_rows(), labels), uniform) ==
        doctest::Approx(-from_uniform(0.55, 0.45)).epsilon(1e-6));
  KlMatching preset;
  preset.set_options({{"preset", std::string("pytorch_ood")}});
  CHECK(preset.needs().fit.labels);
  CHECK_FALSE(KlMatching().needs().fit.labels);
  const Matrix rows = three_rows();
  Batch batch;
  batch.logits = rows;
  batch.labels = labels;
  MemorySource source(batch);
  preset.fit(source);
  CHECK(score(preset, uniform) == doctest::Approx(-from_uniform(0.75, 0.25)).epsilon(1e-6));
}

TEST_CASE(
    "kl_matching: a template is no distance from itself, and hardly any from its neighbours") {
  Matrix f(2, 3);
  f << 1, 0, -2, -1, 2, 0;
  const auto detector = fitted({}, f, {0, 1});
  CHECK(score(detector, f.row(0)) <= 0);
  CHECK(score(detector, f.row(0)) == doctest::Approx(0).scale(1e-14));
  // KL = sum p (h - log(1 + p_0 (e^h - 1))) for the first logit moved by h: p_0 (1 - p_0) h^2 / 2
  Matrix near = f.row(0);
  const double h = 0x1p-13, sum = std::exp(1) + 1 + std::exp(-2), p = std::exp(1) / sum;
  near(0, 0) += static_cast<float>(h);
  CHECK(score(detector, near) == doctest::Approx(-p * (1 - p) * h * h / 2).epsilon(1e-4));
}

TEST_CASE("kl_matching: nothing underflows where rows are sure") {
  Matrix f(1, 2);
  f << 1000, 0;
  const auto detector = fitted({}, f, {0});
  // d = (1, exp(-1000)): (1/2, 1/2) is 1/2 log(1/2) + 1/2 (log(1/2) + 1000) away
  CHECK(score(detector, Matrix::Zero(1, 2)) ==
        doctest::Approx(-(500 - std::log(2.0))).epsilon(1e-6));
  Matrix other(1, 2);
  other << 0, 3e38f;
  CHECK(score(detector, other) == doctest::Approx(-1000));
}

TEST_CASE("kl_matching: a class that is not predicted has no template") {
  Matrix f(2, 3), row(1, 3);
  f << 4, 0, 0, 0, 0, 2;
  row << 0, 50, 0;
  const std::vector<std::int64_t> labels = {0, 2};
  // d = (e^4, 1, 1) / (e^4 + 2) and (1, 1, e^2) / (e^2 + 2); p = (0, 1, 0)
  CHECK(score(fitted({}, f, labels), row) ==
        doctest::Approx(-std::log(std::exp(2) + 2)).epsilon(1e-6));
  CHECK_THROWS_WITH_AS(fitted({.match = KlMatching::Match::predicted}, f, labels),
                       "kl_matching.fit: class 1 has 0 rows predicted as it, expected 1 or more",
                       std::domain_error);
  Matrix more(3, 3);
  more << f, 0, 9, 0;
  CHECK_THROWS_WITH_AS(fitted({.templates = label}, more, {0, 2, 2}),
                       "kl_matching.fit: class 1 has 0 rows of its label, expected 1 or more",
                       std::domain_error);
}
