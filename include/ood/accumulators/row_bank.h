#pragma once

#include "ood/batch.h"
#include "ood/fields.h"

namespace ood {

/// All rows of the features, in order.
class RowBank {
 public:
  RowBank() = default;
  /// `rows` is how many are expected in all: memory is taken once, by the first merge.
  RowBank(Index rows, Index dim) : expected_(rows), dim_(dim) {}

  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    const MatrixView& z = *batch.features;
    grow(count_ + z.rows());
    rows_.middleRows(count_, z.rows()) = z;
    count_ += z.rows();
  }

  void merge(const RowBank& other) {
    grow(std::max(expected_, count_ + other.count_));
    rows_.middleRows(count_, other.count_) = other.rows_.topRows(other.count_);
    count_ += other.count_;
  }

  /// Hands the rows over, [n, D].
  Matrix take() && {
    if (rows_.rows() != count_) rows_.conservativeResize(count_, dim_);
    return std::move(rows_);
  }

  void visit(FieldVisitor& v) {
    v.state("expected", expected_);
    v.state("dim", dim_);
    v.state("count", count_);
    v.state("rows", rows_);
  }

 private:
  void grow(Index capacity) {
    if (rows_.rows() >= capacity) return;
    if (count_ == 0)
      rows_.resize(capacity, dim_);
    else
      rows_.conservativeResize(capacity, dim_);
  }

  Index expected_ = 0, dim_ = 0, count_ = 0;
  Matrix rows_;
};

}  // namespace ood
