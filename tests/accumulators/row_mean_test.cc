#include "ood/accumulators/row_mean.h"

#include <doctest/doctest.h>

#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("row_mean: by hand") {
  Matrix z(4, 2);
  z << 1, -1, 3, -1, 1, -5, 3, 5;
  Batch batch;
  batch.features = z;
  MemorySource source(batch);
  CHECK(reduce(source, RowMean(2)).mean() == VectorD{{2, -0.5}});
}

TEST_CASE("row_mean: merged halves are the whole, also by way of bytes") {
  const auto data = test::make_synthetic(1'001, 6, 4, 2);
  RowMean whole(6), first(6), second(6);
  whole.add(data.batch());
  first.add(data.batch().slice(0, 500));
  second.add(data.batch().slice(500, 501));
  first.merge(fields_from_bytes<RowMean>(fields_to_bytes(second)));
  CHECK((first.mean() - whole.mean()).norm() <= 1e-12 * whole.mean().norm());
}

TEST_CASE("row_mean: no rows, no mean") {
  CHECK_THROWS_WITH_AS(RowMean(3).mean(), "mean of 0 rows, expected 1 or more", std::domain_error);
}
