// The relations by hand, beside the reference values and the contract.
#include "ood/detectors/relation.h"

#include <doctest/doctest.h>

#include <cmath>

#include "synthetic.h"

using namespace ood;

namespace {

/// z' = (1, 0), (0.6, 0.8), (-1, 0) with p = (3/4, 1/4), (1/2, 1/2), (3/4, 1/4).
Relation fitted(const Relation::Options& options) {
  const float log3 = std::log(3.0f);
  Matrix z(3, 2), f(3, 2);
  z << 1, 0, 3, 4, -1, 0;
  f << log3, 0, 0, 0, log3, 0;
  Batch train;
  train.features = z;
  train.logits = f;
  MemorySource source(train);
  Relation relation(options);
  relation.fit(source);
  return relation;
}

float score(const Relation& relation, const Matrix& z, const Matrix& f) {
  Batch batch;
  batch.features = z;
  batch.logits = f;
  return relation.score(batch)[0];
}

const Matrix kRow = (Matrix(1, 2) << 2, 0).finished();
const Matrix kLogits = (Matrix(1, 2) << std::log(3.0f), 0).finished();

}  // namespace

TEST_CASE("relation: by hand") {
  // k = 1 (9/16 + 1/16), 0.6 (1/2), 0: the last one points away
  CHECK(score(fitted({}), kRow, kLogits) == doctest::Approx(0.625 + 0.3));
  CHECK(score(fitted({.power = 2}), kRow, kLogits) == doctest::Approx(0.390625 + 0.09));
  CHECK(score(fitted({.threshold = 0.4}), kRow, kLogits) == doctest::Approx(0.625));
  CHECK(score(fitted({.power = 3, .threshold = 0.4}), kRow, kLogits) ==
        doctest::Approx(0.625 * 0.625 * 0.625));
  CHECK(score(fitted({.threshold = 1}), kRow, kLogits) == 0);
}

TEST_CASE("relation: a row of zeros is related to none") {
  CHECK(score(fitted({}), Matrix::Zero(1, 2), kLogits) == 0);
}

TEST_CASE("relation: features or logits that are not numbers score NaN, whatever the other") {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    const Matrix row = (Matrix(1, 2) << 1, bad).finished();
    CHECK(std::isnan(score(fitted({}), row, kLogits)));
    CHECK(std::isnan(score(fitted({}), kRow, row)));
  }
}

TEST_CASE("relation: a threshold is in [0, 1]") {
  CHECK_THROWS_WITH_AS(Relation({.threshold = -1}),
                       "relation: option threshold has -1, expected a number, 0 or more, 1 or less",
                       std::invalid_argument);
}

TEST_CASE("relation: as a loop over the bank, however confident the rows are") {
  const auto train = test::make_synthetic(1100, 12, 7, 3),
             rows = test::make_synthetic(40, 12, 7, 4);
  for (const float confidence : {0.1f, 1.0f, 10.0f})
    for (const double threshold : {0.0, 0.03, 0.5}) {
      CAPTURE(confidence);
      CAPTURE(threshold);
      const Matrix bank_logits = confidence * train.logits, logits = confidence * rows.logits;
      Batch bank = train.batch(), batch = rows.batch();
      bank.logits = bank_logits;
      batch.logits = logits;
      MemorySource source(bank);
      Relation relation({.threshold = threshold});
      relation.fit(source);
      const auto scores = relation.score(batch);
      const auto softmax = [](const Matrix& f, Index i) {
        const VectorD e =
            (f.row(i).cast<double>().array() - f.row(i).cast<double>().maxCoeff()).exp();
        return VectorD(e / e.sum());
      };
      for (Index i = 0; i < 40; ++i) {
        const VectorD z = rows.features.row(i).cast<double>().normalized(), p = softmax(logits, i);
        double sum = 0, near = 0;  // near the threshold, rounding decides
        for (Index j = 0; j < 1100; ++j) {
          const double k = std::max(0.0, z.dot(train.features.row(j).cast<double>().normalized())) *
                           p.dot(softmax(bank_logits, j));
          (std::abs(k - threshold) < 1e-6 ? near : sum) += k > threshold - 1e-6 ? k : 0;
        }
        CHECK(static_cast<double>(scores[static_cast<std::size_t>(i)]) >= sum * (1 - 1e-5));
        CHECK(static_cast<double>(scores[static_cast<std::size_t>(i)]) <=
              (sum + near) * (1 + 1e-5));
      }
    }
}
