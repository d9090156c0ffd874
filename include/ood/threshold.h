/// From scores to decisions: a threshold at an ID true-positive rate, conformal p-values, many tests
/// at once.
///
/// errors std::invalid_argument: NaN among the scores (says where), no scores, a rate out of range.
#pragma once

#include <span>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"
#include "ood/metrics.h"

namespace ood {

/// The highest score that accepts (score >= threshold) at least a share `tpr` in (0, 1] of the ID
/// scores given: the threshold of fpr_at_tpr(). What share of further ID rows it accepts is not said:
/// see Calibration for that.
double threshold_at_tpr(Scores id, double tpr = 0.95);

/// The distribution of n scores in bounded memory: all of them in their order, x_(0) <= ... <=
/// x_(n-1), or, of more than kMost, kMost of them at the ranks floor(j (n - 1) / (kMost - 1)): the
/// first and the last, and the share of scores that lie between one and the next is below 1 / 65,536.
class ScoreSample {
 public:
  static constexpr Index kMost = 65'537;

  ScoreSample() = default;  ///< of no scores
  explicit ScoreSample(Scores scores);

  Index rows() const { return rows_; }            ///< n
  Scores kept() const { return as_span(kept_); }  ///< sorted
  /// Of all n scores, not of those kept alone. Not finite where a score is not.
  double mean() const { return mean_; }
  double variance() const { return variance_; }  ///< divisor n - 1; 0 for one score
  /// Between these lies the number of scores <= `score`; they are equal where all scores were kept.
  Index at_most_low(double score) const;
  Index at_most_high(double score) const;

  void visit(FieldVisitor& v);
  /// After loading: throws std::invalid_argument if what was loaded is no such sample.
  void finish_loading() const;

 private:
  static Scores as_span(const VectorD& values) {
    return {values.data(), static_cast<std::size_t>(values.size())};
  }
  Index rows_ = 0;
  double mean_ = 0, variance_ = 0;
  VectorD kept_;
};

/// Conformal p-values. For a score s, with the scores x_i of n calibration rows,
///
///   p(s) = (1 + #{i : x_i <= s}) / (n + 1)                             small = unlike ID rows
///
/// If the calibration rows and the new row are exchangeable (independent draws of one distribution, of
/// rows that the detector was not fitted on), then P(p <= alpha | in-distribution) <= alpha for every
/// alpha, whatever the detector: the smallest p is 1 / (n + 1), so that nothing is rejected at an
/// alpha below it. Ties count against nobody: the p-value is the larger one. Of more than
/// ScoreSample::kMost rows the count is taken from above, which keeps the guarantee and makes p larger
/// by less than 1 / 65,536.
///
/// By class: each row is compared with the calibration rows that the network assigned to the same
/// class, so that the guarantee holds within each predicted class, where that class has calibration
/// rows; p = 1 where it has none.
///
/// Source: Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005), 2.2 and 4.5
/// (Mondrian: by class); Bates et al., Testing for Outliers with Conformal p-values, Annals of
/// Statistics 51 (2023), eq. 3.
class Calibration {
 public:
  Calibration() = default;  ///< of no rows
  explicit Calibration(Scores id);
  /// By class: predicted [n] in [0, classes).
  Calibration(Scores id, std::span<const Index> predicted, Index classes);

  Index rows() const { return all_.rows(); }
  bool by_class() const { return !class_rows_.empty(); }
  Index classes() const { return std::ssize(class_rows_); }
  /// n of each class; empty if not by class.
  std::span<const Index> class_rows() const { return class_rows_; }
  /// NaN for a score that is NaN. predicted: the class that the network assigns to the row; unused if
  /// not by class.
  double p_value(double score, Index predicted = 0) const;
  /// The lowest score whose p-value is above alpha, in [0, 1): a row is accepted if its score is not
  /// below it. -infinity where alpha rejects nothing.
  double threshold(double alpha, Index predicted = 0) const;
  /// p-values of rows that were scored. By class, the batch must have logits: the class of a row is
  /// that of its largest logit, the first of equals. Allocates nothing.
  void p_values(const Batch& batch, std::span<const float> scores, std::span<double> out) const;

  /// All rows, whatever their class.
  const ScoreSample& all() const { return all_; }

  void visit(FieldVisitor& v);
  void finish_loading();  ///< as of ScoreSample

 private:
  /// As in ScoreSample: n scores, and those of them that are kept.
  struct Group {
    Index rows;
    Scores kept;
  };
  Group group(Index predicted) const;
  void find_classes();

  ScoreSample all_;
  std::vector<Index> class_rows_;   // n of each class; empty if not by class
  VectorD class_scores_;            // those kept, class after class
  std::vector<Index> class_begin_;  // of each class there
};

/// Benjamini and Hochberg's adjusted p-values: with p_(1) <= ... <= p_(m) and the rank i of a value,
///
///   q_(i) = min_{j >= i} min(1, m p_(j) / j)
///
/// To call out-of-distribution those rows with q <= f keeps the expected share of ID rows among them
/// (the false discovery rate) at f or less; also for conformal p-values that share their calibration
/// rows (Bates et al. 2023, theorem 2). Throws for values out of [0, 1].
/// Source: Benjamini & Hochberg, J. Royal Statistical Society B 57 (1995); R's p.adjust(p, "BH").
std::vector<double> adjusted_p_values(std::span<const double> p_values);

}  // namespace ood
