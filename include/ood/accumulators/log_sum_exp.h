#pragma once

#include <cmath>
#include <limits>

#include "ood/fields.h"
#include "ood/kernels.h"

namespace ood {

/// Several sums of exponentials, each kept as (max, sum): log sum_i exp(e_i) = max + log(sum), with
/// sum = sum_i exp(e_i - max). Never overflows, and underflows only where a term does not matter.
class LogSumExp {
 public:
  LogSumExp() = default;
  explicit LogSumExp(Index columns)
      : max_(VectorD::Constant(columns, -std::numeric_limits<double>::infinity())),
        sum_(VectorD::Zero(columns)) {}

  Index columns() const { return max_.size(); }

  /// Takes in scale_i dots_ij + shift_i for every row i into sum j.
  void add_columns(const MatrixView& dots, std::span<const float> scale,
                   std::span<const float> shift) {
    const auto n = static_cast<std::size_t>(columns());
    kernels::column_log_sum_exp(dots, scale, shift, {max_.data(), n}, {sum_.data(), n});
  }

  /// Takes exp(e) into sum j.
  void add(Index j, double e) { merge_term(j, e, 1.0); }

  void merge(const LogSumExp& other) {
    for (Index j = 0; j < columns(); ++j)
      if (other.sum_[j] != 0) merge_term(j, other.max_[j], other.sum_[j]);
  }

  /// log sum_i exp(e_i) of each column, [columns]; -infinity where there was none.
  VectorD values() const { return (max_.array() + sum_.array().log()).matrix(); }

  void visit(FieldVisitor& v) {
    v.state("max", max_);
    v.state("sum", sum_);
  }

 private:
  void merge_term(Index j, double max, double sum) {
    const double joint = std::max(max_[j], max);
    sum_[j] = sum_[j] * std::exp(max_[j] - joint) + sum * std::exp(max - joint);
    max_[j] = joint;
  }

  VectorD max_, sum_;
};

}  // namespace ood
