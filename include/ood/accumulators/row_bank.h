#pragma once

#include <utility>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"
#include "ood/row_sample.h"

namespace ood {

/// The rows of a sample, in order: their features, and their logits where classes are given.
class RowBank {
 public:
  struct Rows {
    Matrix features;  ///< [m, D]
    Matrix logits;    ///< [m, C], or empty
  };

  RowBank() = default;
  RowBank(const RowSample& sample, Index dim, Index classes = 0)
      : sample_(sample), dim_(dim), classes_(classes) {}

  Inputs inputs() const { return {.features = true, .logits = classes_ > 0}; }

  void add(const Batch& batch) {
    std::vector<Index> kept;
    for (Index i = 0; i < batch.features->rows(); ++i)
      if (sample_.contains(batch.first_row + i)) kept.push_back(i);
    resize(count_ + std::ssize(kept));
    for (const Index i : kept) {
      rows_.features.row(count_) = batch.features->row(i);
      if (classes_ > 0) rows_.logits.row(count_) = batch.logits->row(i);
      ++count_;
    }
  }

  void merge(const RowBank& other) {
    resize(count_ + other.count_);
    rows_.features.middleRows(count_, other.count_) = other.rows_.features.topRows(other.count_);
    if (classes_ > 0)
      rows_.logits.middleRows(count_, other.count_) = other.rows_.logits.topRows(other.count_);
    count_ += other.count_;
  }

  /// Hands the rows over.
  Rows take() && { return std::move(rows_); }

  void visit(FieldVisitor& v) {
    sample_.visit(v);
    v.state("dim", dim_);
    v.state("classes", classes_);
    v.state("count", count_);
    v.state("features", rows_.features);
    v.state("logits", rows_.logits);
  }

 private:
  void resize(Index rows) {
    rows_.features.conservativeResize(rows, dim_);
    if (classes_ > 0) rows_.logits.conservativeResize(rows, classes_);
  }

  RowSample sample_;
  Index dim_ = 0, classes_ = 0, count_ = 0;
  Rows rows_;
};

}  // namespace ood
