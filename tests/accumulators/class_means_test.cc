#include <doctest/doctest.h>

#include "ood/accumulators/class_means.h"
#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("class_means: counts and means by hand") {
  Matrix z(3, 2);
  z << 1, 2, 3, 4, 5, 8;
  const std::vector<std::int64_t> labels = {1, 0, 1};
  Batch batch;
  batch.features = z;
  batch.labels = labels;
  ClassMeans means(2, 2);
  means.add(batch);
  CHECK(means.counts() == std::vector<Index>{1, 2});
  CHECK(means.means() == (MatrixD(2, 2) << 3, 4, 3, 5).finished());
}

TEST_CASE("class_means: a class without rows is an error that names it") {
  const auto data = test::make_synthetic(4, 3, 5, 1);  // classes 0..3 of 5
  MemorySource source(data.batch(), &data.head);
  const auto means = reduce(source, ClassMeans(5, 3));
  CHECK_THROWS_WITH_AS(means.means(), "class 4 has 0 rows, expected 1 or more", std::domain_error);
}

TEST_CASE("class_means: merged halves are the whole, also by way of bytes") {
  const auto data = test::make_synthetic(1'001, 6, 4, 2);
  const Batch all = data.batch();
  ClassMeans whole(4, 6), first(4, 6), second(4, 6);
  whole.add(all);
  first.add(all.slice(0, 500));
  second.add(all.slice(500, 501));
  first.merge(fields_from_bytes<ClassMeans>(fields_to_bytes(second)));
  CHECK(first.counts() == whole.counts());
  CHECK((first.means() - whole.means()).norm() <= 1e-12 * whole.means().norm());
}
