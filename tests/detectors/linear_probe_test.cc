// tests/python/test_combined.py compares with scikit-learn; here what can be said without it.
#include "ood/detectors/linear_probe.h"

#include <doctest/doctest.h>

#include <cmath>

#include "synthetic.h"

using namespace ood;

namespace {

const auto kVal = test::make_everything(100, 9, 3, 2);
const auto kNoise = test::make_everything(30, 9, 3, 4, 0.01);

}  // namespace

TEST_CASE("linear_probe: by hand, one feature and two symmetric rows") {
  // x = 1 and -1 after standardising; v minimises 2 log(1 + exp(-v)) + v^2 / 2: v (1 + exp(v)) = 2
  const Matrix id = Matrix::Constant(1, 1, 5), out = Matrix::Constant(1, 1, 1);
  Batch id_rows, outliers;
  id_rows.features = id;
  outliers.features = out;
  MemorySource val(id_rows), ood_val(outliers);
  LinearProbe probe;
  probe.fit({.id_val = &val, .ood_val = {{"x", &ood_val}}});
  const float slope = probe.score(id_rows)[0];
  CHECK(static_cast<double>(slope) * (1 + std::exp(static_cast<double>(slope))) ==
        doctest::Approx(2).epsilon(1e-6));
  CHECK(probe.score(outliers)[0] == doctest::Approx(-slope).epsilon(1e-6));
  CHECK(std::isnan(std::get<double>(probe.diagnostics().values[0].second)));
  REQUIRE(probe.diagnostics().warnings.size() == 1);
  CHECK(probe.diagnostics().warnings[0] == "fewer than 2 rows of a side: no cross-validation");
}

TEST_CASE("linear_probe: several sets of outliers, each with its share of the rows") {
  MemorySource val(kVal.batch()), a(kNoise.batch()), b(kNoise.batch().slice(0, 10));
  LinearProbe probe({.rows = 20});
  probe.fit({.id_val = &val, .ood_val = {{"a", &a}, {"b", &b}}});
  const auto values = probe.diagnostics().values;
  CHECK(std::get<Index>(values[1].second) == 20);  // of 100
  CHECK(std::get<Index>(values[2].second) == 20);  // 15 of 30 and 5 of 10
}

TEST_CASE("linear_probe: without outliers there is nothing to learn from") {
  MemorySource val(kVal.batch());
  CHECK_THROWS_WITH_AS(
      LinearProbe().fit(val),
      "linear_probe.fit: validation outliers have 0 rows, expected a dozen or more",
      std::domain_error);
}

TEST_CASE("linear_probe: outliers of another width are an error that says both") {
  const auto narrow = test::make_everything(30, 7, 3, 4);
  MemorySource val(kVal.batch()), outliers(narrow.batch());
  CHECK_THROWS_WITH_AS(LinearProbe().fit({.id_val = &val, .ood_val = {{"x", &outliers}}}),
                       "linear_probe.fit: memory has features of 7 columns, expected 9",
                       std::invalid_argument);
}
