// What is CoP's own, beside the reference values and the contract.
#include "ood/detectors/cop.h"

#include <doctest/doctest.h>

#include "ood/registry.h"

using namespace ood;

namespace {

/// At unit length (1, 0), (-1, 0), (0.6, 0.8) and (0.6, -0.8): mean (0.3, 0), covariance
/// diag(0.59, 0.32), so that the first direction holds 0.648 of the variance.
const Matrix& rows() {
  static const Matrix z = (Matrix(4, 2) << 2, 0, -3, 0, 3, 4, 6, -8).finished();
  return z;
}

Cop fitted(double variance) {
  Batch train;
  train.features = rows();
  MemorySource source(train);
  Cop cop({.variance = variance});
  cop.fit(source);
  return cop;
}

}  // namespace

TEST_CASE("cop: by hand") {
  Matrix z(4, 2);
  z << 0, 5, 3, -4, 7, 0, 0, 0;  // the second coordinates of the directions are left over
  Batch batch;
  batch.features = z;
  const auto scores = fitted(0.6).score(batch);
  CHECK(scores[0] == doctest::Approx(-1).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(-0.8).epsilon(1e-6));
  CHECK(scores[2] == doctest::Approx(0).epsilon(1e-6));
  CHECK(scores[3] == doctest::Approx(0).epsilon(1e-6));
}

TEST_CASE("cop: a variance that takes all directions is an error with the numbers") {
  CHECK_THROWS_WITH_AS(fitted(0.85),
                       "cop.fit: variance has 0.85, expected a share that less than all 2 "
                       "directions hold in which the features vary (D = 2): no residual is left",
                       std::domain_error);
}

TEST_CASE("cop: what a fit found, and the preset") {
  const auto found = fitted(0.6).diagnostics().values;
  REQUIRE(found.size() == 3);
  CHECK(found[0] == decltype(found)::value_type{"dim", Index{1}});
  CHECK(found[1] == decltype(found)::value_type{"rank", Index{2}});
  CHECK(found[2].first == "condition_number");
  CHECK(std::get<double>(found[2].second) == doctest::Approx(0.59 / 0.32));
  CHECK(std::get<double>(
            make_detector("cop", {{"preset", std::string("imagenet")}})->options().at(0).value) ==
        0.99);
}
