// What is NAC's own, beside the reference values and the contract.
#include "ood/detectors/nac.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "synthetic.h"

using namespace ood;

namespace {

/// f = (log 3, 0) for each row: p - 1/2 = (1/4, -1/4), and with W = (1, -1)^T g = 1/2.
Batch batch_of(const Matrix& z, Matrix& logits) {
  logits.resize(z.rows(), 2);
  logits.col(0).setConstant(std::log(3.0f));
  logits.col(1).setZero();
  Batch batch;
  batch.features = z;
  batch.logits = logits;
  return batch;
}

}  // namespace

TEST_CASE("nac: by hand") {
  const Head head{.weight = (Matrix(2, 1) << 1, -1).finished(), .bias = Vector::Zero(2)};
  // bins = 6 meet at t, 1/2 and 1 - t, t = log(1 + (sqrt(1000) - 1) / 2) / log(1000) = 0.404: at
  // z g = -0.388, 0 and 0.388. Of z g = 1, 1 and -0.5 two are in the last and one in the first
  Matrix train(3, 1), train_logits, z(5, 1), logits;
  train << 2, 2, -1;
  MemorySource source(batch_of(train, train_logits), &head);
  Nac nac({.bins = 6, .saturation = 2, .alpha = 1, .rows = 0});
  nac.fit(source);
  z << 3, -2, 0.1f, 0, 0.8f;
  CHECK(nac.score(batch_of(z, logits)) == std::vector<float>{1, 0.5f, 0, 0, 1});
  CHECK(nac.diagnostics().values.at(0).second == OptionValue(Index{3}));
}

TEST_CASE("nac: as many rows are counted as asked for, others with another seed") {
  const auto data = test::make_synthetic(5000, 6, 3, 4);
  const auto fitted = [&](Index rows, Index seed) {
    MemorySource source(data.batch(), &data.head);
    Nac nac({.rows = rows, .seed = seed});
    nac.fit(source);
    return nac;
  };
  for (const Index rows : {1, 1000, 4999})
    CHECK(fitted(rows, 0).diagnostics().values.at(0).second == OptionValue(rows));
  CHECK(fitted(6000, 0).diagnostics().values.at(0).second == OptionValue(Index{5000}));
  CHECK(fitted(100, 0).score(data.batch()) == fitted(100, 0).score(data.batch()));
  CHECK(fitted(100, 0).score(data.batch()) != fitted(100, 1).score(data.batch()));
}
