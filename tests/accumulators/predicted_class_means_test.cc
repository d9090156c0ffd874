#include "ood/accumulators/predicted_class_means.h"

#include <doctest/doctest.h>

#include <limits>

#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("row_argmax: the first of the largest; -1 for rows with NaN or infinity") {
  Matrix logits(5, 3);
  const float inf = std::numeric_limits<float>::infinity();
  logits << 1, 3, 2, 5, 4, 5, -1, -1, -1, 0, std::nanf(""), 7, 9, -inf, 1;
  std::vector<Index> classes(5);
  kernels::row_argmax(logits, classes);
  CHECK((classes == std::vector<Index>{1, 0, 0, -1, -1}));
}

TEST_CASE("predicted_class_means: by hand") {
  Matrix z(3, 2), logits(3, 2);
  z << 1, 0, 3, 4, 5, 6;
  logits << 2, 1, -1, 0, 7, 7;
  Batch batch;
  batch.features = z;
  batch.logits = logits;
  PredictedClassMeans means(2, 2);
  means.add(batch);
  CHECK(means.means() == (MatrixD(2, 2) << 3, 3, 3, 4).finished());
}

TEST_CASE("predicted_class_means: a class that nothing is predicted as is an error") {
  Matrix z(1, 2), logits(1, 2);
  z << 1, 2;
  logits << 1, 0;
  Batch batch;
  batch.features = z;
  batch.logits = logits;
  PredictedClassMeans means(2, 2);
  means.add(batch);
  CHECK_THROWS_WITH_AS(means.means(), "class 1 is predicted for 0 rows, expected 1 or more",
                       std::domain_error);
}

TEST_CASE("predicted_class_means: merged halves are the whole, also by way of bytes") {
  const auto data = test::make_synthetic(1'001, 6, 4, 2);
  const Batch all = data.batch();
  PredictedClassMeans whole(4, 6), first(4, 6), second(4, 6);
  whole.add(all);
  first.add(all.slice(0, 500));
  second.add(all.slice(500, 501));
  first.merge(fields_from_bytes<PredictedClassMeans>(fields_to_bytes(second)));
  CHECK((first.means() - whole.means()).norm() <= 1e-13 * whole.means().norm());
}
