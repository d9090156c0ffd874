// What is CoRP's own, beside the reference values and the contract.
#include "ood/detectors/corp.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "ood/random.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("corp: by hand, two features") {
  // D = 1: directions are +1 and -1, so that phi has two values a (of +1) and b, and all variance
  // is along a - b: nothing is left over of either, and the residual has rank 0
  Matrix z(2, 1);
  z << 3, -2;
  Batch train;
  train.features = z;
  MemorySource source(train);
  Corp corp({.variance = 0.5, .dimension = 2});
  CHECK_THROWS_WITH_AS(corp.fit(source),
                       "corp.fit: variance has 0.5, expected a share that less than all 1 "
                       "directions hold in which the features vary (D = 2): no residual is left",
                       std::domain_error);

  // Three directions of a plane and M = 2: the residual is what the better one of two leaves over,
  // from the formulas with the numbers that random.h gives
  Matrix plane(3, 2);
  plane << 1, 0, 0, 1, -1, 0;
  train.features = plane;
  MemorySource three(train);
  corp.fit(three);
  double phi[3][2];
  for (std::uint64_t m = 0; m < 2; ++m) {
    std::vector<double> normals(2);
    fill_normal(0, 0x430, m, normals);
    const double phase = 2 * std::numbers::pi * uniform(0, 0x431, m);
    for (int i = 0; i < 3; ++i)  // sqrt(2 / M) = 1, sqrt(2 gamma) = 2
      phi[i][m] = std::cos(2 * (normals[0] * plane(i, 0) + normals[1] * plane(i, 1)) + phase);
  }
  double mean[2] = {0, 0}, xx = 0, xy = 0, yy = 0;
  for (const auto& p : phi) {
    mean[0] += p[0] / 3;
    mean[1] += p[1] / 3;
  }
  for (const auto& p : phi) {
    xx += (p[0] - mean[0]) * (p[0] - mean[0]);
    xy += (p[0] - mean[0]) * (p[1] - mean[1]);
    yy += (p[1] - mean[1]) * (p[1] - mean[1]);
  }
  const double angle = 0.5 * std::atan2(2 * xy, xx - yy);  // of the longer axis of the ellipse
  const auto scores = corp.score(train);
  for (std::size_t i = 0; i < 3; ++i) {
    const double left =
        (phi[i][1] - mean[1]) * std::cos(angle) - (phi[i][0] - mean[0]) * std::sin(angle);
    CHECK(scores[i] == doctest::Approx(-std::abs(left)).epsilon(1e-5));
  }
}

TEST_CASE("corp: another seed gives other features, the same seed the same") {
  const auto data = test::make_synthetic(400, 6, 3, 4);
  const auto scores = [&](Index seed) {
    MemorySource source(data.batch());
    Corp corp({.dimension = 64, .seed = seed});
    corp.fit(source);
    return corp.score(data.batch());
  };
  CHECK(scores(0) == scores(0));
  CHECK(scores(0) != scores(1));
}

TEST_CASE("corp: random features are not kept in what is saved") {
  const auto data = test::make_synthetic(400, 6, 3, 4);
  MemorySource source(data.batch());
  Corp corp({.dimension = 64});
  corp.fit(source);
  const auto dim = static_cast<std::size_t>(std::get<Index>(corp.diagnostics().values[0].second));
  CHECK(to_bytes(corp).size() < 4 * 64 * (dim + 1) + 1000);  // mean and basis
}
