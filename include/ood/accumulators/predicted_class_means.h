#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/class_means.h"
#include "ood/kernels.h"

namespace ood {

/// Means of the features of each predicted class, the largest logit of a row; labels do not matter.
class PredictedClassMeans {
 public:
  PredictedClassMeans() = default;
  PredictedClassMeans(Index classes, Index dim) : means_(classes, dim) {}

  Inputs inputs() const { return {.features = true, .logits = true}; }

  void add(const Batch& batch) {
    std::vector<Index> predicted(static_cast<std::size_t>(batch.logits->rows()));
    kernels::row_argmax(*batch.logits, predicted);
    Batch labelled;
    labelled.features = batch.features;
    labelled.labels = predicted;
    means_.add(labelled);
  }

  void merge(const PredictedClassMeans& other) { means_.merge(other.means_); }

  /// [C, D]. Throws std::domain_error if a class is predicted for no row.
  MatrixD means() const {
    for (std::size_t c = 0; c < means_.counts().size(); ++c)
      if (means_.counts()[c] == 0)
        throw std::domain_error("class " + std::to_string(c) +
                                " is predicted for 0 rows, expected 1 or more");
    return means_.means();
  }

  void visit(FieldVisitor& v) { means_.visit(v); }

 private:
  ClassMeans means_;
};

}  // namespace ood
