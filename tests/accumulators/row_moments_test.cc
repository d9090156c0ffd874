#include "ood/accumulators/row_moments.h"

#include <doctest/doctest.h>

#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("row_moments: mean and covariance by hand, without labels") {
  Matrix z(4, 2);
  z << 1, 1, 3, 1, 1, 5, 3, 5;
  Batch batch;
  batch.features = z;
  MemorySource source(batch);
  const auto moments = reduce(source, RowMoments(2));
  CHECK(moments.rows() == 4);
  CHECK(moments.mean() == VectorD{{2, 3}});
  CHECK(moments.covariance() == (MatrixD(2, 2) << 1, 0, 0, 4).finished());
}

TEST_CASE("row_moments: merged halves are the whole, also by way of bytes") {
  const auto data = test::make_synthetic(1'001, 6, 4, 2);
  RowMoments whole(6), first(6), second(6);
  whole.add(data.batch());
  first.add(data.batch().slice(0, 500));
  second.add(data.batch().slice(500, 501));
  first.merge(fields_from_bytes<RowMoments>(fields_to_bytes(second)));
  CHECK(first.rows() == 1'001);
  CHECK((first.mean() - whole.mean()).norm() <= 1e-12 * whole.mean().norm());
  CHECK((first.covariance() - whole.covariance()).norm() <= 1e-12 * whole.covariance().norm());
}
