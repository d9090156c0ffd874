#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"

namespace ood {

/// Counts and means of each class, summed in float64.
class ClassMeans {
 public:
  ClassMeans() = default;
  ClassMeans(Index classes, Index dim)
      : counts_(static_cast<std::size_t>(classes), 0), sums_(MatrixD::Zero(classes, dim)) {}

  Inputs inputs() const { return {.features = true, .labels = true}; }

  void add(const Batch& batch) {
    const Labels labels = *batch.labels;
    for (Index i = 0; i < batch.features->rows(); ++i) {
      const std::int64_t label = labels[static_cast<std::size_t>(i)];
      ++counts_[static_cast<std::size_t>(label)];
      sums_.row(label) += batch.features->row(i).cast<double>();
    }
  }

  void merge(const ClassMeans& other) {
    for (std::size_t c = 0; c < counts_.size(); ++c) counts_[c] += other.counts_[c];
    sums_ += other.sums_;
  }

  const std::vector<Index>& counts() const { return counts_; }

  /// [C, D]. Throws std::domain_error if a class has no rows.
  MatrixD means() const {
    MatrixD means = sums_;
    for (Index c = 0; c < means.rows(); ++c) {
      const Index count = counts_[static_cast<std::size_t>(c)];
      if (count == 0)
        throw std::domain_error("class " + std::to_string(c) + " has 0 rows, expected 1 or more");
      means.row(c) /= static_cast<double>(count);
    }
    return means;
  }

  void visit(FieldVisitor& v) {
    v.state("counts", counts_);
    v.state("sums", sums_);
  }

 private:
  std::vector<Index> counts_;
  MatrixD sums_;
};

}  // namespace ood
