#include "ood/accumulators/second_moment.h"

#include <doctest/doctest.h>

#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("second_moment: by hand") {
  Matrix z(2, 2);
  z << 1, 2, 3, 5;
  Batch batch;
  batch.features = z;
  SecondMoment moment((VectorD(2) << 1, 1).finished());
  moment.add(batch);  // deviations (0, 1) and (2, 4)
  CHECK(moment.rows() == 2);
  CHECK(moment.moment() == (MatrixD(2, 2) << 2, 4, 4, 8.5).finished());
}

TEST_CASE("second_moment: without rows there is none") {
  CHECK_THROWS_WITH_AS(SecondMoment(VectorD::Zero(3)).moment(),
                       "second moment of 0 rows, expected 1 or more", std::domain_error);
}

TEST_CASE("second_moment: merged halves are the whole, also by way of bytes") {
  const auto data = test::make_synthetic(1'001, 6, 4, 2);
  const Batch all = data.batch();
  const VectorD origin = VectorD::LinSpaced(6, -1, 1);
  SecondMoment whole(origin), first(origin), second(origin);
  whole.add(all);
  first.add(all.slice(0, 500));
  second.add(all.slice(500, 501));
  first.merge(fields_from_bytes<SecondMoment>(fields_to_bytes(second)));
  CHECK(first.rows() == 1'001);
  CHECK((first.moment() - whole.moment()).norm() <= 1e-12 * whole.moment().norm());
}
