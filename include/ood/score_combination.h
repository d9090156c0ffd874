#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ood/detector.h"
#include "ood/fields.h"
#include "ood/matrix.h"

namespace ood {

/// How several scores of a sample, s_1 .. s_m, become one. All are measured against the scores of n
/// in-distribution samples, the calibration rows; higher stays more in-distribution.
///
///   mean     1/m sum_l t_l,   t_l = (s_l - mean_l) / sd_l
///   minimum  min_l t_l
///   fisher   log P(X >= T), X chi-squared with 2 m degrees of freedom, T = -2 sum_l log p_l,
///            p_l = (1 + #{i: s_il <= s_l}) / (n + 1)
///   brown    log P(X >= T / c), X chi-squared with 2 E[T]^2 / V[T] degrees of freedom, c = V[T] /
///            (2 E[T]): what T follows where the s_l are dependent. E and V are those of the
///            calibration rows; the order of samples is that of fisher.
///   learned  <v, t> + b, logistic regression of calibration rows (1) against outliers (0), both
///            sides of equal weight, with an l2 penalty, C = 1 (ood/logistic_regression.h)
///
/// mean_l and sd_l (divisor n) are those of the calibration rows. p_l is a conformal p-value: for a
/// sample that is in-distribution, P(p_l <= a) <= a, if no detector was fitted on those rows. It resolves no more than n + 1 steps: samples
/// below all calibration rows are ties. fisher takes the s_l for independent.
///
/// Sources: Fisher, Statistical Methods for Research Workers (1925); Brown, Biometrics 31 (1975).
/// oodeel's Fisher takes an interpolated distribution function of the training rows' own scores.
enum class CombinationRule { mean, minimum, fisher, brown, learned };
inline constexpr std::array<std::string_view, 5> kCombinationRules = {"mean", "minimum", "fisher",
                                                                      "brown", "learned"};

/// A rule with what it knows of the calibration rows: n m doubles for fisher and brown, 2 m for the
/// others.
class ScoreCombination {
 public:
  /// id [n, m] scores of the calibration rows; outliers [k, m] for `learned`, else not read; names
  /// [m], for errors. Throws std::domain_error where a score is not finite, or, for the rules that
  /// divide by it, does not vary.
  void fit(CombinationRule rule, const MatrixD& id, const MatrixD& outliers,
           std::span<const std::string> names);
  /// Throws std::invalid_argument if what was loaded is not for this many scores.
  void require_members(Index members) const;
  /// NaN if one of them is.
  double combine(std::span<const double> scores) const;
  void visit(FieldVisitor& v);
  /// The weights of `learned`, the correlation that brown found.
  void add_found(Diagnostics& found) const;

 private:
  double fisher_statistic(std::span<const double> scores) const;

  CombinationRule rule_ = CombinationRule::mean;
  VectorD center_, scale_;                         // [m]
  MatrixD sorted_;                                 // [m, n], each row ascending
  double statistic_scale_ = 1, half_degrees_ = 0;  // of brown and fisher
  VectorD weights_;                                // [m]
  double intercept_ = 0;
};

}  // namespace ood
