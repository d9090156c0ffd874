#pragma once

#include <stdexcept>

#include "ood/batch.h"
#include "ood/fields.h"

namespace ood {

/// The mean of all rows, summed in float64.
class RowMean {
 public:
  RowMean() = default;
  explicit RowMean(Index dim) : sum_(VectorD::Zero(dim)) {}

  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    for (Index i = 0; i < batch.features->rows(); ++i)
      sum_ += batch.features->row(i).cast<double>().transpose();
    rows_ += batch.features->rows();
  }

  void merge(const RowMean& other) {
    sum_ += other.sum_;
    rows_ += other.rows_;
  }

  /// [D]. Throws std::domain_error without rows.
  VectorD mean() const {
    if (rows_ == 0) throw std::domain_error("mean of 0 rows, expected 1 or more");
    return sum_ / static_cast<double>(rows_);
  }

  void visit(FieldVisitor& v) {
    v.state("sum", sum_);
    v.state("rows", rows_);
  }

 private:
  VectorD sum_;
  Index rows_ = 0;
};

}  // namespace ood
