// The cosines of features and their copies by hand, beside the reference values and the contract.
#include <doctest/doctest.h>

#include "ood/detectors/cosine_variance.h"
#include "ood/detectors/min_cosine.h"
#include "ood/detectors/wepe.h"
#include "synthetic.h"

using namespace ood;

namespace {

double score(const Detector& detector, const Matrix& row, const Tensor3& copies) {
  Batch batch;
  batch.features = row;
  batch.copy_features.emplace(test::Everything::view_of(copies));
  return static_cast<double>(detector.score(batch).at(0));
}

}  // namespace

TEST_CASE("copies of features: by hand") {
  const Matrix row = (Matrix(1, 2) << 3, 4).finished();
  const Tensor3 copies = {{{3, 4}}, {{80, 60}}, {{-4, 3}}};  // cosines 1, 24/25, 0
  CHECK(score(Wepe(), row, copies) == doctest::Approx((1 + 0.96) / 3 - 1).epsilon(1e-6));
  CHECK(score(MinCosine(), row, copies) == doctest::Approx(-1).epsilon(1e-6));
  // squares 1, 0.9216, 0 less 3 (1.96 / 3)^2, over K - 1 = 2
  CHECK(score(CosineVariance(), row, copies) ==
        doctest::Approx(-(1.9216 - 1.96 * 1.96 / 3) / 2).epsilon(1e-6));
}

TEST_CASE("copies of features: cosines that are 1 in float32 keep their distance from it") {
  const Matrix row = (Matrix(1, 2) << 1, 0).finished();
  const Tensor3 copies = {{{1, 1e-5f}}, {{1, 2e-5f}}};  // 1 - cos = 1e-10 / 2 and 4e-10 / 2
  CHECK(score(Wepe(), row, copies) == doctest::Approx(-1.25e-10).epsilon(1e-6));
  CHECK(score(MinCosine(), row, copies) == doctest::Approx(-2e-10).epsilon(1e-6));
  CHECK(score(CosineVariance(), row, copies) ==
        doctest::Approx(-1.5e-10 * 1.5e-10 / 2).epsilon(1e-6));
}

TEST_CASE("copies of features: a row of zeros has cosine 0") {
  const Matrix row = (Matrix(1, 2) << 1, 0).finished(), zeros = Matrix::Zero(1, 2);
  CHECK(score(Wepe(), row, {{{0, 0}}, {{1, 0}}}) == -0.5);
  CHECK(score(MinCosine(), row, {{{0, 0}}, {{1, 0}}}) == -1);
  CHECK(score(Wepe(), zeros, {{{0, 0}}, {{1, 0}}}) == -1);
}

TEST_CASE("copies of features: a single copy is no sample of a variance") {
  const Matrix row = (Matrix(1, 2) << 1, 0).finished();
  CHECK_THROWS_WITH_AS(
      score(CosineVariance(), row, {{{1, 0}}}),
      "cosine_variance.score: copies/features has K = 1 copies, expected 2 or more",
      std::domain_error);
}
