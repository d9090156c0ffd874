// What is ViM's own, beside the reference values and the contract.
#include "ood/detectors/vim.h"

#include <doctest/doctest.h>

#include <cmath>

#include "synthetic.h"

using namespace ood;

TEST_CASE("vim: by hand") {
  // u = -pinv(W) b = 0; the second coordinate is what dim = 1 leaves
  const Head head{.weight = (Matrix(2, 2) << 1, 0, -1, 0).finished(), .bias = Vector::Zero(2)};
  Matrix z(4, 2);
  z << 3, 1, -3, 1, 5, -1, -5, -1;
  const Matrix logits = z * head.weight.transpose();  // the largest: 3, 3, 5, 5
  Batch train;
  train.features = z;
  train.logits = logits;
  MemorySource source(train, &head);
  Vim vim({.dim = 1});
  vim.fit(source);
  CHECK(vim.alpha() == doctest::Approx(4).epsilon(1e-6));  // mean logit 4, mean residual 1

  Matrix rows(2, 2), of_rows(2, 2);
  rows << 0, 2, 1, -0.5f;
  of_rows << 0, 0, 1, -1;
  Batch batch;
  batch.features = rows;
  batch.logits = of_rows;
  const auto scores = vim.score(batch);
  CHECK(scores[0] == doctest::Approx(std::log(2.0) - 8).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(std::log(std::exp(1.0) + std::exp(-1.0)) - 2).epsilon(1e-6));
}

TEST_CASE("vim: a dimension that leaves nothing is an error that names dim, rank and D") {
  const auto data = test::make_synthetic(200, 6, 3, 4);
  MemorySource source(data.batch(), &data.head);
  Vim vim({.dim = 6});
  CHECK_THROWS_WITH_AS(vim.fit(source),
                       "vim.fit: dim has 6, expected less than the rank 6 of the features "
                       "(D = 6): no residual is left",
                       std::domain_error);
}

TEST_CASE("vim: without a head there is no fit") {
  const auto data = test::make_synthetic(200, 6, 3, 4);
  MemorySource source(data.batch());
  CHECK_THROWS_WITH_AS(Vim().fit(source), "vim.fit: memory has no head", std::invalid_argument);
}
