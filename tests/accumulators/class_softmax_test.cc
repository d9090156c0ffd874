// Mean softmax vectors by hand, also where float64 would underflow.
#include "ood/accumulators/class_softmax.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace ood;

TEST_CASE("class_softmax: by prediction or by label, merged") {
  Matrix f(3, 2);
  f << std::log(3.0f), 0, std::log(9.0f), 0, 0,
      std::log(4.0f);  // (3/4, 1/4), (9/10, 1/10), (1/5, 4/5)
  const std::vector<std::int64_t> labels = {0, 1, 1};
  Batch all;
  all.logits = f;
  all.labels = labels;
  for (const bool by_label : {false, true}) {
    ClassSoftmax first(2, by_label), last(2, by_label), none(2, by_label);
    first.add(all.slice(0, 1));
    last.add(all.slice(1, 2));
    first.merge(none);
    first.merge(last);
    const MatrixD d = first.log_means().array().exp();
    CHECK(first.counts() == (by_label ? std::vector<Index>{1, 2} : std::vector<Index>{2, 1}));
    CHECK(d(0, 0) == doctest::Approx(by_label ? 0.75 : 0.825).epsilon(1e-6));
    CHECK(d(1, 1) == doctest::Approx(by_label ? 0.45 : 0.8).epsilon(1e-6));
  }
}

TEST_CASE("class_softmax: no mean is 0, and a class without rows has none") {
  Matrix f(2, 3);
  f << 2000, 0, 1000, 1000, 0, 500;
  Batch rows;
  rows.logits = f;
  ClassSoftmax softmax(3, false);
  softmax.add(rows);
  CHECK(softmax.counts() == std::vector<Index>{2, 0, 0});
  const MatrixD log_d = softmax.log_means();
  CHECK(log_d(0, 0) == 0);
  CHECK(log_d(0, 1) == doctest::Approx(-1000 - std::log(2.0)).epsilon(1e-12));
  CHECK(log_d(0, 2) == doctest::Approx(-500 - std::log(2.0)).epsilon(1e-12));
  CHECK(log_d.row(1).isZero(0));
}
