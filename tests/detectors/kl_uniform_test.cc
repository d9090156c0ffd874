// The divergence from uniform by hand, beside the reference values and the contract.
#include "ood/detectors/kl_uniform.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

TEST_CASE("kl_uniform: by hand, whatever is added to all logits") {
  Matrix logits(4, 2);
  const auto log_3 = static_cast<float>(std::log(3.0));
  logits << 0, log_3,        // p = (1/4, 3/4): log(4 / 3) / 2
      -8, log_3 - 8,         //
      5, 5,                  // p = u
      1'000'000, 1'000'030;  // 15 + log(1 + exp(-30)) - log 2
  Batch batch;
  batch.logits = logits;
  const auto scores = KlUniform().score(batch);
  CHECK(scores[0] == doctest::Approx(std::log(4.0 / 3) / 2).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(std::log(4.0 / 3) / 2).epsilon(1e-5));
  CHECK(scores[2] == 0);
  CHECK(scores[3] == doctest::Approx(15 - std::log(2.0)).epsilon(1e-6));
}

TEST_CASE("kl_uniform: 0 where there is one class") {
  const Matrix logits = Matrix::Constant(2, 1, 3.5f);
  Batch batch;
  batch.logits = logits;
  CHECK(KlUniform().score(batch) == std::vector<float>{0, 0});
}
