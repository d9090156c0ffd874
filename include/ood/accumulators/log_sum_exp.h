#pragma once

#include <cmath>
#include <limits>

#include "ood/fields.h"
#include "ood/kernels.h"

namespace ood {

/// Several sums of exponentials, each kept as (max, sum, squares): log sum_i exp(e_i) = max +
/// log(sum), with sum = sum_i exp(e_i - max) and squares = sum_i exp(2 (e_i - max)). Never
/// overflows, and underflows only where a term does not matter.
class LogSumExp {
 public:
  LogSumExp() = default;
  explicit LogSumExp(Index columns)
      : max_(VectorD::Constant(columns, -std::numeric_limits<double>::infinity())),
        sum_(VectorD::Zero(columns)),
        squares_(VectorD::Zero(columns)) {}

  Index columns() const { return max_.size(); }

  /// Takes in scale_i x_ij + shift_i for every row i into sum j.
  void add_columns(const MatrixView& x, std::span<const float> scale,
                   std::span<const float> shift) {
    const auto n = static_cast<std::size_t>(columns());
    kernels::column_log_sum_exp(x, scale, shift, {max_.data(), n}, {sum_.data(), n},
                                {squares_.data(), n});
  }
  /// Takes in x_ij for every row i into sum j.
  void add_columns(const MatrixView& x) {
    const auto rows = static_cast<std::size_t>(x.rows());
    add_columns(x, std::vector<float>(rows, 1.0f), std::vector<float>(rows, 0.0f));
  }

  /// Takes exp(e) into sum j.
  void add(Index j, double e) { merge_term(j, e, 1, 1); }

  void merge(const LogSumExp& other) {
    for (Index j = 0; j < columns(); ++j)
      if (other.sum_[j] != 0) merge_term(j, other.max_[j], other.sum_[j], other.squares_[j]);
  }

  /// log sum_i exp(e_i) of each column, [columns]; -infinity where there was none.
  VectorD values() const { return (max_.array() + sum_.array().log()).matrix(); }

  /// (sum_i w_i)^2 / sum_i w_i^2 with w = exp(e), [columns]: how many equal terms would weigh as
  /// much. NaN where there was none.
  VectorD effective_terms() const { return sum_.array().square() / squares_.array(); }

  /// The standard error of log sum_i w_i of each column, were the w_i independent draws, counts_j
  /// of them: sqrt((n sum w^2 / (sum w)^2 - 1) / (n - 1)), [columns]. NaN for n = 1.
  VectorD standard_error(const VectorD& counts) const {
    return ((counts.array() / effective_terms().array() - 1).max(0) / (counts.array() - 1)).sqrt();
  }

  void visit(FieldVisitor& v) {
    v.state("max", max_);
    v.state("sum", sum_);
    v.state("squares", squares_);
  }

 private:
  void merge_term(Index j, double max, double sum, double squares) {
    const double joint = std::max(max_[j], max);
    const double own = std::exp(max_[j] - joint), others = std::exp(max - joint);
    sum_[j] = sum_[j] * own + sum * others;
    squares_[j] = squares_[j] * own * own + squares * others * others;
    max_[j] = joint;
  }

  VectorD max_, sum_, squares_;
};

}  // namespace ood
