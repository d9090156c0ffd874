#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"

namespace ood {

/// The largest Euclidean distances of the rows of each class from a given point, in float64.
class LargestDistances {
 public:
  LargestDistances() = default;
  /// centers [C, D]; up to `most` distances are kept of each class.
  LargestDistances(const MatrixD& centers, Index most)
      : centers_(centers),
        counts_(static_cast<std::size_t>(centers.rows()), 0),
        kept_(centers.rows(), most) {}

  Inputs inputs() const { return {.features = true, .labels = true}; }

  void add(const Batch& batch) {
    for (Index i = 0; i < batch.features->rows(); ++i) {
      const std::int64_t c = (*batch.labels)[static_cast<std::size_t>(i)];
      add(c, (batch.features->row(i).cast<double>() - centers_.row(c)).norm());
    }
  }

  void merge(const LargestDistances& other) {
    for (Index c = 0; c < kept_.rows(); ++c)
      for (const double distance : other.heap(c)) add(c, distance);
  }

  /// Those of class c in ascending order: fewer than asked for where it has fewer rows.
  std::vector<double> of_class(Index c) const {
    const auto kept = heap(c);
    std::vector<double> distances(kept.begin(), kept.end());
    std::ranges::sort(distances);
    return distances;
  }

  void visit(FieldVisitor& v) {
    v.state("centers", centers_);
    v.state("counts", counts_);
    v.state("kept", kept_);
  }

 private:
  std::span<const double> heap(Index c) const {
    return {kept_.row(c).data(), static_cast<std::size_t>(counts_[static_cast<std::size_t>(c)])};
  }

  void add(Index c, double distance) {
    Index& count = counts_[static_cast<std::size_t>(c)];
    double* const first = kept_.row(c).data();  // a heap, the smallest in front
    if (count < kept_.cols()) {
      first[count++] = distance;
      std::push_heap(first, first + count, std::greater());
    } else if (distance > first[0]) {
      std::pop_heap(first, first + count, std::greater());
      first[count - 1] = distance;
      std::push_heap(first, first + count, std::greater());
    }
  }

  MatrixD centers_;
  std::vector<Index> counts_;
  MatrixD kept_;  // [C, most], `counts` of each row
};

}  // namespace ood
