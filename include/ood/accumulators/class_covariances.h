#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/row_moments.h"

namespace ood {

/// The moments of each of the classes [first, first + count), in float64; rows of other classes
/// are passed over. count D^2 doubles: take several passes of a few classes where that is much.
class ClassCovariances {
 public:
  ClassCovariances() = default;
  ClassCovariances(Index first, Index count, Index dim)
      : first_(first), moments_(static_cast<std::size_t>(count), RowMoments(dim)) {}

  Inputs inputs() const { return {.features = true, .labels = true}; }

  void add(const Batch& batch) {
    const MatrixView& z = *batch.features;
    std::vector<std::vector<Index>> rows_of(moments_.size());
    for (Index i = 0; i < z.rows(); ++i) {
      const std::int64_t place = (*batch.labels)[static_cast<std::size_t>(i)] - first_;
      if (place >= 0 && place < std::ssize(rows_of))
        rows_of[static_cast<std::size_t>(place)].push_back(i);
    }
    Matrix gathered;
    for (std::size_t c = 0; c < moments_.size(); ++c) {
      if (rows_of[c].empty()) continue;
      gathered.resize(std::ssize(rows_of[c]), z.cols());
      for (std::size_t i = 0; i < rows_of[c].size(); ++i)
        gathered.row(static_cast<Index>(i)) = z.row(rows_of[c][i]);
      Batch of_class;
      of_class.features = gathered;
      moments_[c].add(of_class);
    }
  }

  void merge(const ClassCovariances& other) {
    for (std::size_t c = 0; c < moments_.size(); ++c)
      if (other.moments_[c].rows() > 0) moments_[c].merge(other.moments_[c]);
  }

  /// Of class first + i. Throws std::domain_error if it has no rows.
  const RowMoments& of(Index i) const {
    const RowMoments& moments = moments_[static_cast<std::size_t>(i)];
    if (moments.rows() == 0)
      throw std::domain_error("class " + std::to_string(first_ + i) +
                              " has 0 rows, expected 1 or more");
    return moments;
  }

  void visit(FieldVisitor& v) {
    v.state("first", first_);
    std::vector<Index> rows;
    for (const RowMoments& moments : moments_) rows.push_back(moments.rows());
    v.state("rows", rows);
    moments_.resize(rows.size());  // what is read has as many
    for (RowMoments& moments : moments_) moments.visit(v);
  }

 private:
  Index first_ = 0;
  std::vector<RowMoments> moments_;
};

}  // namespace ood
