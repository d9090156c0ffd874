#include "ood/spectrum.h"

#include <doctest/doctest.h>

#include <limits>

#include "synthetic.h"

using namespace ood;

namespace {

/// U diag(values) U^T with a random rotation U.
MatrixD rotated(const VectorD& values, std::uint32_t seed) {
  const MatrixD random = test::normal_matrix(values.size(), values.size(), seed).cast<double>();
  const MatrixD u = spectrum_of(random * random.transpose()).directions;
  return u.transpose() * values.asDiagonal() * u;
}

/// Largest entry of V V^T - I and of A V^T - V^T diag(values), relative to the largest value.
double worst(const MatrixD& a, const Spectrum& spectrum) {
  const MatrixD& v = spectrum.directions;
  const auto identity = MatrixD::Identity(v.rows(), v.rows());
  const MatrixD residual =
      a * v.transpose() - v.transpose() * spectrum.values.head(v.rows()).asDiagonal();
  return std::max((v * v.transpose() - identity).cwiseAbs().maxCoeff(),
                  residual.cwiseAbs().maxCoeff() / spectrum.values[0]);
}

}  // namespace

TEST_CASE("spectrum: values fall, directions are eigenvectors, rank and share are counted") {
  const VectorD values = (VectorD(4) << 5, 3, 2, 0).finished();
  const Spectrum spectrum = spectrum_of(rotated(values, 1));
  CHECK((spectrum.values - values).cwiseAbs().maxCoeff() < 1e-14);
  CHECK(worst(rotated(values, 1), spectrum) < 1e-14);
  CHECK(spectrum.rank == 3);
  CHECK(spectrum.condition_number == doctest::Approx(2.5).epsilon(1e-13));  // 5 / 2
  CHECK(spectrum.count_for_share(0.49) == 1);
  CHECK(spectrum.count_for_share(0.51) == 2);
  CHECK(spectrum.count_for_share(0.81) == 3);
}

TEST_CASE("spectrum: leading directions alone are those of all") {
  constexpr Index kDim = 150;
  const auto falling = [](Index i) { return 1.0 / static_cast<double>(1 + i); };
  VectorD distinct(kDim), equal(kDim), low_rank = VectorD::Zero(kDim);
  for (Index i = 0; i < kDim; ++i) {
    distinct[i] = falling(i);
    equal[i] = falling(i / 40 * 40);  // forty times the same
    if (i < 12) low_rank[i] = falling(i);
  }
  for (const VectorD& values : {distinct, equal, low_rank})
    for (const Index count : {Index{1}, Index{9}, Index{37}, Index{80}, kDim}) {
      CAPTURE(count);
      const MatrixD a = rotated(values, 2);
      const Spectrum some = leading_spectrum(a, [&](const Spectrum&) { return count; });
      REQUIRE(some.directions.rows() == count);
      CHECK((some.values - values).cwiseAbs().maxCoeff() < 1e-13);
      CHECK(worst(a, some) < 1e-12);
      CHECK(some.rank == (values[kDim - 1] == 0 ? 12 : kDim));
    }
  const MatrixD diagonal = equal.asDiagonal();  // falls apart into single entries
  CHECK(worst(diagonal, leading_spectrum(diagonal, [](const Spectrum&) { return Index{30}; })) <
        1e-12);
  const MatrixD zero = MatrixD::Zero(kDim, kDim);
  CHECK(leading_spectrum(zero, [](const Spectrum&) { return Index{3}; }).rank == 0);
}

TEST_CASE("spectrum: NaN is an error") {
  MatrixD a = MatrixD::Identity(80, 80);
  a(3, 3) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(spectrum_of(a), std::domain_error);
  CHECK_THROWS_AS(leading_spectrum(a, [](const Spectrum&) { return Index{1}; }), std::domain_error);
}
