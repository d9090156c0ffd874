#pragma once

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/batch.h"
#include "ood/exec.h"
#include "ood/fields.h"
#include "ood/kernels.h"

namespace ood {

/// Counts, means and the pooled within-class scatter, in float64:
///
///   counts_c = n_c,  means_c = mu_c,  scatter = sum_i (z_i - mu_{y_i})(z_i - mu_{y_i})^T
///
/// Rows are centred on the means of their own block before they are squared, and blocks are merged
/// by Chan, Golub & LeVeque's update for each class (Algorithms for computing the sample variance,
/// 1983): one pass, and nothing is lost to cancellation however far the means are from 0.
class ClassMoments {
 public:
  ClassMoments() = default;
  ClassMoments(Index classes, Index dim)
      : counts_(static_cast<std::size_t>(classes), 0),
        means_(MatrixD::Zero(classes, dim)),
        scatter_(MatrixD::Zero(dim, dim)) {}

  Inputs inputs() const { return {.features = true, .labels = true}; }

  void add(const Batch& batch) {
    const MatrixView& z = *batch.features;
    const Labels y = *batch.labels;
    std::vector<Index> counts(counts_.size(), 0);
    MatrixD means = MatrixD::Zero(classes(), dim());
    for (Index i = 0; i < z.rows(); ++i) {
      const std::int64_t label = y[static_cast<std::size_t>(i)];
      ++counts[static_cast<std::size_t>(label)];
      means.row(label) += z.row(i).cast<double>();
    }
    for (Index c = 0; c < classes(); ++c) {
      const Index count = counts[static_cast<std::size_t>(c)];
      if (count > 0) means.row(c) /= static_cast<double>(count);
    }
    kernels::add_centered_scatter(z, means, y, scatter_);
    merge_means(counts, means, {.threads = 1});
  }

  /// Costs up to C D^2 multiplications: on the threads of `exec`, the same bits on any number.
  void merge(const ClassMoments& other, const Exec& exec = {.threads = 1}) {
    const Index parts = thread_count(exec);
    parallel_for(parts, exec, [&](Index part) {
      const Index first = dim() * part / parts, rows = dim() * (part + 1) / parts - first;
      scatter_.middleRows(first, rows) += other.scatter_.middleRows(first, rows);
    });
    merge_means(other.counts_, other.means_, exec);
  }

  Index classes() const { return means_.rows(); }
  Index dim() const { return means_.cols(); }
  Index count(Index c) const { return counts_[static_cast<std::size_t>(c)]; }
  Index rows() const {
    Index n = 0;
    for (const Index count : counts_) n += count;
    return n;
  }

  /// mu_c, [C, D]. Throws std::domain_error if a class has no rows.
  const MatrixD& means() const {
    for (Index c = 0; c < classes(); ++c)
      if (count(c) == 0)
        throw std::domain_error("class " + std::to_string(c) + " has 0 rows, expected 1 or more");
    return means_;
  }

  /// mu, [D]: the mean of all rows.
  VectorD mean() const {
    VectorD sum = VectorD::Zero(dim());
    for (Index c = 0; c < classes(); ++c)
      sum += static_cast<double>(count(c)) * means_.row(c).transpose();
    return sum / static_cast<double>(rows());
  }

  /// S = scatter / n, [D, D]: the tied covariance, divided by n.
  MatrixD within_covariance() const {
    MatrixD s = scatter_ / static_cast<double>(rows());
    s.triangularView<Eigen::StrictlyUpper>() = s.transpose();
    return s;
  }

  /// S_0 = sum_i (z_i - mu)(z_i - mu)^T / n, [D, D]: within plus between the classes.
  MatrixD total_covariance() const {
    const VectorD mu = mean();
    MatrixD between(classes(), dim());
    for (Index c = 0; c < classes(); ++c)
      between.row(c) = std::sqrt(static_cast<double>(count(c)) / static_cast<double>(rows())) *
                       (means_.row(c) - mu.transpose());
    MatrixD s = scatter_ / static_cast<double>(rows());
    kernels::add_scatter(between, s);
    s.triangularView<Eigen::StrictlyUpper>() = s.transpose();
    return s;
  }

  void visit(FieldVisitor& v) {
    v.state("counts", counts_);
    v.state("means", means_);
    v.state("scatter", scatter_);
  }

 private:
  /// Takes in classes whose scatter about their own means is in scatter_ already.
  void merge_means(const std::vector<Index>& counts, const MatrixD& means, const Exec& exec) {
    // A class in both: the scatter grows by (n_a n_b / n) delta delta^T, delta = mu_b - mu_a
    MatrixD moved(classes(), dim());
    Index in_both = 0;
    for (Index c = 0; c < classes(); ++c) {
      Index& own = counts_[static_cast<std::size_t>(c)];
      const Index more = counts[static_cast<std::size_t>(c)];
      if (more == 0) continue;
      const auto a = static_cast<double>(own), b = static_cast<double>(more);
      const auto delta = (means.row(c) - means_.row(c)).eval();
      if (own > 0) moved.row(in_both++) = std::sqrt(a * b / (a + b)) * delta;
      means_.row(c) += (b / (a + b)) * delta;
      own += more;
    }
    moved.conservativeResize(in_both, dim());
    const Index parts = thread_count(exec);
    parallel_for(parts, exec,
                 [&](Index part) { kernels::add_scatter(moved, scatter_, part, parts); });
  }

  std::vector<Index> counts_;
  MatrixD means_;
  MatrixD scatter_;  // lower triangle; what is above it has no meaning
};

}  // namespace ood
