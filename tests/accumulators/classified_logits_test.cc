// Which rows are handed on.
#include "ood/accumulators/classified_logits.h"

#include <doctest/doctest.h>

#include "ood/accumulators/class_means.h"

using namespace ood;

TEST_CASE("classified_logits: rows that are predicted as their label, or all") {
  Matrix f(4, 2);
  f << 3, 1, 2, 2, 0, 5, 4, 0;  // predicted 0, 0 (the first of a tie), 1, 0
  const std::vector<std::int64_t> labels = {0, 0, 1, 1};
  Batch batch;
  batch.logits = f;
  batch.labels = labels;
  ClassifiedLogits correct(ClassMeans(2, 2), true), all(ClassMeans(2, 2), false);
  for (const Index i : {0, 2}) {
    ClassifiedLogits part(ClassMeans(2, 2), true);
    part.add(batch.slice(i, 2));
    correct.merge(part);
  }
  all.add(batch);
  CHECK(correct.inner().counts() == std::vector<Index>{2, 1});
  CHECK(correct.inner().means() == (MatrixD(2, 2) << 2.5, 1.5, 0, 5).finished());
  CHECK(all.inner().counts() == std::vector<Index>{2, 2});
  CHECK(all.inner().means() == (MatrixD(2, 2) << 2.5, 1.5, 2, 2.5).finished());
}
