#include "ood/accumulators/class_covariances.h"

#include <doctest/doctest.h>

#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("class_covariances: the classes asked for, each from its own rows") {
  const auto data = test::make_synthetic(9'001, 6, 4, 2);  // row i belongs to class i % 4
  MemorySource source(data.batch(), nullptr, 1'000);
  const auto two = reduce(source, ClassCovariances(1, 2, 6));
  for (const Index c : {1, 2}) {
    const Index rows = (9'001 - c + 3) / 4;
    MatrixD z(rows, 6);
    for (Index i = 0; i < rows; ++i) z.row(i) = data.features.row(4 * i + c).cast<double>();
    const Eigen::RowVectorXd mean = z.colwise().mean();
    z.rowwise() -= mean;
    const MatrixD covariance = z.transpose() * z / static_cast<double>(rows);
    CHECK(two.of(c - 1).rows() == rows);
    CHECK((two.of(c - 1).mean() - mean.transpose()).norm() <= 1e-12 * mean.norm());
    CHECK((two.of(c - 1).covariance() - covariance).norm() <= 1e-12 * covariance.norm());
  }
}

TEST_CASE("class_covariances: a class without rows is an error that names it") {
  const auto data = test::make_synthetic(4, 3, 5, 1);  // classes 0..3 of 5
  MemorySource source(data.batch(), &data.head);
  const auto covariances = reduce(source, ClassCovariances(3, 2, 3));
  CHECK(covariances.of(0).rows() == 1);
  CHECK_THROWS_WITH_AS(covariances.of(1), "class 4 has 0 rows, expected 1 or more",
                       std::domain_error);
}

TEST_CASE("class_covariances: merged halves are the whole, also by way of bytes") {
  const auto data = test::make_synthetic(1'001, 6, 4, 2);
  ClassCovariances whole(0, 4, 6), first(0, 4, 6), second(0, 4, 6);
  whole.add(data.batch());
  first.add(data.batch().slice(0, 500));
  second.add(data.batch().slice(500, 501));
  first.merge(fields_from_bytes<ClassCovariances>(fields_to_bytes(second)));
  for (Index c = 0; c < 4; ++c) {
    const MatrixD expected = whole.of(c).covariance();
    CHECK(first.of(c).rows() == whole.of(c).rows());
    CHECK((first.of(c).covariance() - expected).norm() <= 1e-12 * expected.norm());
  }
}
