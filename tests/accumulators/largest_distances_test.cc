// The largest distances, whatever the order of the rows.
#include "ood/accumulators/largest_distances.h"

#include <doctest/doctest.h>

using namespace ood;

TEST_CASE("largest_distances: of each class, in any order and by parts") {
  const MatrixD centers = (MatrixD(3, 2) << 0, 0, 1, 0, 0, 0).finished();
  Matrix z(7, 2);
  z << 3, 4, 1, 0, 0, 1, 1, 2, 6, 8, 0, 2, 4, 4;  // class 0: 5, 1, 10, 2; class 1: 0, 2, 5
  std::vector<std::int64_t> labels = {0, 1, 0, 1, 0, 0, 1};
  Batch batch;
  batch.features = z;
  batch.labels = labels;
  for (const Index cut : {0, 1, 3, 5, 7}) {
    LargestDistances first(centers, 3), last(centers, 3);
    first.add(batch.slice(0, cut));
    last.add(batch.slice(cut, 7 - cut));
    first.merge(last);
    CHECK(first.of_class(0) == std::vector<double>{2, 5, 10});
    CHECK(first.of_class(1) == std::vector<double>{0, 2, 5});
    CHECK(first.of_class(2).empty());
  }
}
