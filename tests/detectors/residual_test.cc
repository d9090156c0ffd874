// What is the residual's own, beside the reference values and the contract.
#include "ood/detectors/residual.h"

#include <doctest/doctest.h>

#include <cmath>

#include "synthetic.h"

using namespace ood;

namespace {

/// u = -pinv(W) b = (1, 0, 0): W sees the first coordinate alone.
Head head_of_one_class() {
  return {.weight = (Matrix(1, 3) << 2, 0, 0).finished(), .bias = Vector::Constant(1, -2)};
}

}  // namespace

TEST_CASE("residual: by hand") {
  // z - u = (+-4, 0, 0), (0, +-2, 0), (0, 0, +-1): M is diagonal, with 16 > 4 > 1 thirds
  Matrix z(6, 3);
  z << 5, 0, 0, -3, 0, 0, 1, 2, 0, 1, -2, 0, 1, 0, 1, 1, 0, -1;
  Batch train;
  train.features = z;
  const Head head = head_of_one_class();
  MemorySource source(train, &head);

  Matrix rows(3, 3);
  rows << 1, 0, 0, 7, 3, 4, 1, -3, 0;
  Batch batch;
  batch.features = rows;
  Residual one({.dim = 1});  // leaves the last two coordinates
  one.fit(source);
  const auto scores = one.score(batch);
  CHECK(scores[0] == doctest::Approx(0).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(-5).epsilon(1e-6));
  CHECK(scores[2] == doctest::Approx(-3).epsilon(1e-6));

  Residual two({.dim = 2});  // leaves the last one
  two.fit(source);
  CHECK(two.score(batch)[1] == doctest::Approx(-4).epsilon(1e-6));

  Residual by_width;  // D / 2 = 1
  by_width.fit(source);
  CHECK(by_width.score(batch) == scores);
}

TEST_CASE("residual: the principal dimension by the width, as the paper's code has it") {
  CHECK(ResidualSpace::default_dim(2048) == 1000);
  CHECK(ResidualSpace::default_dim(2047) == 512);
  CHECK(ResidualSpace::default_dim(768) == 512);
  CHECK(ResidualSpace::default_dim(767) == 383);
  CHECK(ResidualSpace::default_dim(1) == 0);
}

TEST_CASE("residual: a dimension that leaves nothing is an error that names dim, rank and D") {
  auto data = test::make_synthetic(200, 6, 3, 4);
  MemorySource source(data.batch(), &data.head);
  const auto message = [&](Index dim, const std::string& rank) {
    return "residual.fit: dim has " + std::to_string(dim) + ", expected less than the rank " +
           rank + " of the features (D = 6): no residual is left";
  };
  for (const Index dim : {6, 7, 1'000}) {
    Residual detector({.dim = dim});
    CHECK_THROWS_WITH_AS(detector.fit(source), message(dim, "6").c_str(), std::domain_error);
    CHECK_FALSE(detector.fitted());
  }
  CHECK_NOTHROW(Residual({.dim = 5}).fit(source));

  // Column 5 a copy of column 4, of head and rows: rank 5
  data.features.col(5) = data.features.col(4);
  data.head.weight.col(5) = data.head.weight.col(4);
  MemorySource deficient(data.batch(), &data.head);
  CHECK_THROWS_WITH_AS(Residual({.dim = 5}).fit(deficient), message(5, "5").c_str(),
                       std::domain_error);
  CHECK_NOTHROW(Residual({.dim = 4}).fit(deficient));
}
