#include "ood/accumulators/row_mean.h"

#include <doctest/doctest.h>

#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("row_mean: by hand") {
  Matrix z(2, 2);
  z << 1, 2, 3, 5;
  Batch batch;
  batch.features = z;
  RowMean mean(2);
  mean.add(batch);
  CHECK(mean.mean() == (VectorD(2) << 2, 3.5).finished());
}

TEST_CASE("row_mean: without rows there is none") {
  CHECK_THROWS_WITH_AS(RowMean(3).mean(), "mean of 0 rows, expected 1 or more", std::domain_error);
}

TEST_CASE("row_mean: merged halves are the whole, also by way of bytes") {
  const auto data = test::make_synthetic(1'001, 6, 4, 2);
  const Batch all = data.batch();
  RowMean whole(6), first(6), second(6);
  whole.add(all);
  first.add(all.slice(0, 500));
  second.add(all.slice(500, 501));
  first.merge(fields_from_bytes<RowMean>(fields_to_bytes(second)));
  CHECK((first.mean() - whole.mean()).norm() <= 1e-14 * whole.mean().norm());
}
