#pragma once

#include <utility>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"

namespace ood {

/// Hands logits on to another accumulator, as its features: of the rows that are predicted as their
/// label, or of all. A row whose largest logits tie is predicted as the first of them.
template <class A>
class ClassifiedLogits {
 public:
  ClassifiedLogits() = default;
  explicit ClassifiedLogits(A empty, bool correct_only)
      : inner_(std::move(empty)), correct_only_(correct_only) {}

  Inputs inputs() const { return {.logits = true, .labels = true}; }

  void add(const Batch& batch) {
    const MatrixView& f = *batch.logits;
    Matrix rows(f.rows(), f.cols());
    std::vector<std::int64_t> labels;
    for (Index i = 0; i < f.rows(); ++i) {
      const std::int64_t label = (*batch.labels)[static_cast<std::size_t>(i)];
      Index predicted = 0;
      f.row(i).maxCoeff(&predicted);
      if (correct_only_ != 0 && predicted != label) continue;
      rows.row(std::ssize(labels)) = f.row(i);
      labels.push_back(label);
    }
    Batch kept;
    kept.features = MatrixView(rows).middle_rows(0, std::ssize(labels));
    kept.labels = labels;
    inner_.add(kept);
  }

  void merge(const ClassifiedLogits& other) { inner_.merge(other.inner_); }

  const A& inner() const { return inner_; }

  void visit(FieldVisitor& v) {
    v.state("correct_only", correct_only_);
    inner_.visit(v);
  }

 private:
  A inner_;
  Index correct_only_ = 0;  // 0 or 1; there is no state of bool
};

}  // namespace ood
