// ASH by hand, beside the reference values and the contract.
#include "ood/detectors/ash.h"

#include <doctest/doctest.h>

#include <cmath>
#include <stdexcept>

using namespace ood;

namespace {

/// One logit, which is the score, and tells the columns apart.
const Head kHead{.weight = (Matrix(1, 5) << 1, 10, 100, 1000, 10'000).finished(),
                 .bias = Vector::Constant(1, 0.5f)};

std::vector<float> scores(const OptionMap& options, const Matrix& rows, const Head& head = kHead) {
  Batch batch;
  batch.features = rows;
  MemorySource source(batch, &head);
  Ash detector;
  detector.set_options({{"percentile", 60.0}});  // 2 of 5 are kept
  detector.set_options(options);
  detector.fit(source);
  return detector.score(batch);
}

}  // namespace

TEST_CASE("ash: by hand") {
  Matrix rows(3, 5);
  rows << 1, 4, 0, 3, 2,  // s1 = 10, s2 = 4 + 3
      2, 2, 2, 0, 0,      // the first two of three that are equal; s1 = 6, s2 = 4
      0, 0, 0, 0, 0;
  const auto p = scores({{"variant", std::string("p")}}, rows);
  CHECK(p[0] == doctest::Approx(40 + 3000 + 0.5).epsilon(1e-6));
  CHECK(p[1] == doctest::Approx(2 + 20 + 0.5).epsilon(1e-6));
  CHECK(p[2] == doctest::Approx(0.5).epsilon(1e-6));
  const auto b = scores({{"variant", std::string("b")}}, rows);
  CHECK(b[0] == doctest::Approx(50 + 5000 + 0.5).epsilon(1e-6));
  CHECK(b[1] == doctest::Approx(3 + 30 + 0.5).epsilon(1e-6));
  CHECK(b[2] == doctest::Approx(0.5).epsilon(1e-6));
  const auto s = scores({}, rows);
  CHECK(s[0] == doctest::Approx(3040 * std::exp(10.0 / 7) + 0.5).epsilon(1e-6));
  CHECK(s[1] == doctest::Approx(22 * std::exp(1.5) + 0.5).epsilon(1e-6));
  CHECK(s[2] == doctest::Approx(0.5).epsilon(1e-6));
}

TEST_CASE("ash: presets") {
  const auto options = [](const char* preset) {
    Ash detector;
    detector.set_options({{"preset", std::string(preset)}});
    return detector.options();
  };
  CHECK(to_text(options("openood").at(0).value) == "b");
  CHECK(to_text(options("openood").at(1).value) == "90");
  CHECK(to_text(options("pytorch_ood").at(0).value) == "s");
  CHECK(to_text(options("pytorch_ood").at(1).value) == "65");
}

TEST_CASE("ash: a negative entry is an error, or 0") {
  Matrix rows = Matrix::Ones(131, 5);
  rows(130, 2) = -0.25f;
  for (const char* variant : {"p", "b", "s"})
    CHECK_THROWS_WITH_AS(scores({{"variant", std::string(variant)}}, rows),
                         "ash.score: features has -0.25 at row 130, column 2, expected 0 or more, "
                         "as after a ReLU; relu = true takes negative entries for 0",
                         std::domain_error);
  const auto rectified = scores({{"relu", true}}, rows);
  rows(130, 2) = 0;
  CHECK(rectified == scores({}, rows));
}

TEST_CASE("ash: a finite row whose scaled features are beyond float32 scores NaN") {
  const Head head{.weight = Matrix::Ones(1, 100), .bias = Vector::Zero(1)};
  const Matrix rows = Matrix::Ones(1, 100);
  // k = 1: exp(100) is not a float32
  CHECK(std::isnan(scores({{"percentile", 99.0}}, rows, head)[0]));
  CHECK(scores({{"percentile", 95.0}}, rows, head)[0] ==
        doctest::Approx(5 * std::exp(20.0)).epsilon(1e-6));
}
