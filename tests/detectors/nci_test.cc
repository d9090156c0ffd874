// The two terms by hand, beside the reference values and the contract.
#include "ood/detectors/nci.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace ood;

namespace {

Nci fitted(const OptionMap& options) {
  const Matrix train = (Matrix(2, 2) << 0, 0, 2, 2).finished();  // mean (1, 1)
  const Head head{.weight = (Matrix(2, 2) << 3, 0, 0, -4).finished(), .bias = Vector::Zero(2)};
  Batch batch;
  batch.features = train;
  MemorySource source(batch, &head);
  Nci detector;
  detector.set_options(options);
  detector.fit(source);
  return detector;
}

std::vector<float> scores(const Nci& detector, const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return detector.score(batch);
}

}  // namespace

TEST_CASE("nci: by hand") {
  // Off the mean by (3, 4), of class 0 and then of class 1; and the mean itself
  const Matrix z = (Matrix(3, 2) << 4, 5, 4, 5, 1, 1).finished();
  const Matrix f = (Matrix(3, 2) << 1, 0, 0, 1, 1, 0).finished();
  const auto found = scores(fitted({{"alpha", 0.1}}), z, f);
  CHECK(found[0] == doctest::Approx(9.0 / 5 + 0.9).epsilon(1e-6));
  CHECK(found[1] == doctest::Approx(-16.0 / 5 + 0.9).epsilon(1e-6));
  CHECK(found[2] == doctest::Approx(0.2).epsilon(1e-6));
  CHECK(scores(fitted({}), z, f)[0] == doctest::Approx(9.0 / 5 + 9e-4).epsilon(1e-6));
}

TEST_CASE("nci: a mean between two numbers of float32, far from 0") {
  const float unit = 0x1p-7f, far = 1e5f;  // next to `far`, numbers are a unit apart
  const Matrix train = (Matrix(2, 2) << far, far, far + unit, far + unit).finished();
  const Matrix z =
      (Matrix(1, 2) << far + 3 * unit, far + 4 * unit).finished();  // 2.5, 3.5 off the mean
  const Head head{.weight = (Matrix(2, 2) << 3, 1, 0, -4).finished(), .bias = Vector::Zero(2)};
  Batch batch;
  batch.features = train;
  MemorySource source(batch, &head);
  Nci detector;
  detector.set_options({{"preset", "pytorch_ood"}});
  detector.fit(source);
  const auto found = scores(detector, z, (Matrix(1, 2) << 1, 0).finished());
  CHECK(found[0] == doctest::Approx((3 * 2.5 + 3.5) / std::hypot(2.5, 3.5)).epsilon(1e-6));
}

TEST_CASE("nci: preset pytorch_ood is the first term") {
  const auto found = scores(fitted({{"preset", std::string("pytorch_ood")}}),
                            (Matrix(1, 2) << 4, 5).finished(), (Matrix(1, 2) << 1, 0).finished());
  CHECK(found[0] == doctest::Approx(9.0 / 5).epsilon(1e-6));
}

TEST_CASE("nci: NaN or infinity in features or logits alone is enough for NaN") {
  Matrix z = Matrix::Ones(2, 2) * 3, f = (Matrix(2, 2) << 0, 1, 2, 2).finished();
  z(0, 1) = std::nanf("");
  f(1, 0) = -std::numeric_limits<float>::infinity();
  for (const float s : scores(fitted({}), z, f)) CHECK(std::isnan(s));
}
