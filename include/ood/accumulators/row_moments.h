#pragma once

#include <vector>

#include "ood/accumulators/class_moments.h"

namespace ood {

/// Count, mean and scatter of all rows, whatever their labels: the moments of one class.
class RowMoments {
 public:
  RowMoments() = default;
  explicit RowMoments(Index dim) : moments_(1, dim) {}

  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    const std::vector<std::int64_t> one_class(static_cast<std::size_t>(batch.rows()), 0);
    Batch labelled;
    labelled.features = batch.features;
    labelled.labels = one_class;
    moments_.add(labelled);
  }

  void merge(const RowMoments& other, const Exec& exec = {.threads = 1}) {
    moments_.merge(other.moments_, exec);
  }

  Index rows() const { return moments_.rows(); }
  /// mu, [D]. Needs a row.
  VectorD mean() const { return moments_.mean(); }
  /// sum_i (z_i - mu)(z_i - mu)^T / n, [D, D]. Needs a row.
  MatrixD covariance() const { return moments_.within_covariance(); }

  void visit(FieldVisitor& v) { moments_.visit(v); }

 private:
  ClassMoments moments_;
};

}  // namespace ood
