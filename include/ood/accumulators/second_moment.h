#pragma once

#include <stdexcept>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"
#include "ood/kernels.h"

namespace ood {

/// The second moment about a given point, in float64:
///
///   M = 1/n sum_i (z_i - u)(z_i - u)^T
class SecondMoment {
 public:
  SecondMoment() = default;
  /// u [D].
  explicit SecondMoment(const VectorD& origin)
      : origin_(origin.transpose()), sum_(MatrixD::Zero(origin.size(), origin.size())) {}

  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    const std::vector<Index> same(static_cast<std::size_t>(batch.features->rows()), 0);
    kernels::add_centered_scatter(*batch.features, origin_, same, sum_);
    rows_ += batch.features->rows();
  }

  void merge(const SecondMoment& other) {
    sum_ += other.sum_;
    rows_ += other.rows_;
  }

  Index rows() const { return rows_; }

  /// M, [D, D]. Throws std::domain_error without rows.
  MatrixD moment() const {
    if (rows_ == 0) throw std::domain_error("second moment of 0 rows, expected 1 or more");
    MatrixD m = sum_ / static_cast<double>(rows_);
    m.triangularView<Eigen::StrictlyUpper>() = m.transpose();
    return m;
  }

  void visit(FieldVisitor& v) {
    v.state("origin", origin_);
    v.state("sum", sum_);
    v.state("rows", rows_);
  }

 private:
  MatrixD origin_;  // [1, D]
  MatrixD sum_;     // lower triangle; what is above it has no meaning
  Index rows_ = 0;
};

}  // namespace ood
