// What is ssd's own, beside the reference values (detector_reference_test.cc) and the contract.
#include "ood/detectors/ssd.h"

#include <doctest/doctest.h>

#include <cmath>

#include "synthetic.h"

using namespace ood;

namespace {

Batch batch_of(const Matrix& z) {
  Batch batch;
  batch.features = z;
  return batch;
}

}  // namespace

TEST_CASE("ssd: by hand, without labels") {
  // At unit length (+-0.8, 0.6), (+-0.8, -0.6): mean 0, S = diag(0.64, 0.36)
  Matrix z(4, 2), queries(4, 2);
  z << 8, 6, -0.4f, 0.3f, 4, -3, -80, -60;
  queries << 9, 0, 0, -1e-3f, 1.2f, 1.6f, 0, 0;
  Ssd detector;
  MemorySource source(batch_of(z));
  detector.fit(source);
  CHECK(detector.rank() == 2);
  CHECK(detector.condition_number() == doctest::Approx(0.64 / 0.36));
  const auto scores = detector.score(batch_of(queries));
  CHECK(scores[0] == doctest::Approx(-1 / 0.64));
  CHECK(scores[1] == doctest::Approx(-1 / 0.36));
  CHECK(scores[2] == doctest::Approx(-0.36 / 0.64 - 0.64 / 0.36));
  CHECK(scores[3] == doctest::Approx(0).epsilon(1e-5));  // a row of zeros stays zero
}

TEST_CASE("ssd: the size of a row does not matter") {
  auto data = test::make_synthetic(300, 9, 4, 3);
  Ssd detector;
  MemorySource source(data.batch());
  detector.fit(source);
  const auto expected = detector.score(data.batch());
  for (Index i = 0; i < 300; ++i) data.features.row(i) *= std::ldexp(1.0f, static_cast<int>(i % 9));
  CHECK(detector.score(data.batch()) == expected);
  MemorySource scaled(data.batch());
  detector.fit(scaled);
  CHECK(detector.score(data.batch()) == expected);
}

TEST_CASE("ssd: directions that do not vary are an error") {
  Matrix z(3, 2);
  z << 1, 0, 2, 0, 7, 0;
  MemorySource source(batch_of(z));
  CHECK_THROWS_WITH_AS(Ssd().fit(source),
                       "ssd.fit: the covariance is 0, expected features that vary",
                       std::domain_error);
}
