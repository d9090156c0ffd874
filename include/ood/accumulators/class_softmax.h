#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"
#include "ood/log_softmax.h"

namespace ood {

/// Mean softmax vectors of the rows that are predicted as each class, or that have its label, as
/// logarithms in float64. Each of the C^2 sums is kept as max + log(sum): no mean is 0, however
/// small the probabilities are.
class ClassSoftmax {
 public:
  ClassSoftmax() = default;
  ClassSoftmax(Index classes, bool by_label)
      : by_label_(by_label),
        counts_(static_cast<std::size_t>(classes), 0),
        max_(MatrixD::Constant(classes, classes, -std::numeric_limits<double>::infinity())),
        sum_(MatrixD::Zero(classes, classes)) {}

  Inputs inputs() const { return {.logits = true, .labels = by_label_ != 0}; }

  void add(const Batch& batch) {
    VectorD log_p;
    for (Index i = 0; i < batch.rows(); ++i) {
      const Index predicted = log_softmax(*batch.logits, i, log_p);
      const Index c = by_label_ != 0 ? (*batch.labels)[static_cast<std::size_t>(i)] : predicted;
      ++counts_[static_cast<std::size_t>(c)];
      for (Index j = 0; j < log_p.size(); ++j) add_term(c, j, log_p[j], 1);
    }
  }

  void merge(const ClassSoftmax& other) {
    for (Index c = 0; c < max_.rows(); ++c) {
      const Index count = other.counts_[static_cast<std::size_t>(c)];
      if (count == 0) continue;
      counts_[static_cast<std::size_t>(c)] += count;
      for (Index j = 0; j < max_.cols(); ++j) add_term(c, j, other.max_(c, j), other.sum_(c, j));
    }
  }

  const std::vector<Index>& counts() const { return counts_; }

  /// log of the mean softmax of each class, [C, C]; rows of 0 for a class without rows.
  MatrixD log_means() const {
    MatrixD means = MatrixD::Zero(max_.rows(), max_.cols());
    for (Index c = 0; c < means.rows(); ++c)
      if (const Index count = counts_[static_cast<std::size_t>(c)]; count > 0)
        means.row(c) =
            max_.row(c).array() + (sum_.row(c).array() / static_cast<double>(count)).log();
    return means;
  }

  void visit(FieldVisitor& v) {
    v.state("by_label", by_label_);
    v.state("counts", counts_);
    v.state("max", max_);
    v.state("sum", sum_);
  }

 private:
  /// Adds sum exp(max).
  void add_term(Index c, Index j, double max, double sum) {
    if (max > max_(c, j)) {
      sum_(c, j) = sum_(c, j) * std::exp(max_(c, j) - max) + sum;
      max_(c, j) = max;
    } else {
      sum_(c, j) += sum * std::exp(max - max_(c, j));
    }
  }

  Index by_label_ = 0;  // 0 or 1; there is no state of bool
  std::vector<Index> counts_;
  MatrixD max_, sum_;
};

}  // namespace ood
