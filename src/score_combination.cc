#include "ood/score_combination.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unsupported/Eigen/SpecialFunctions>

#include "errors.h"
#include "ood/logistic_regression.h"

namespace ood {

namespace {

/// log P(X >= x), X chi-squared with 2 a degrees of freedom.
double log_survival(double half_degrees, double x) {
  const double q = Eigen::numext::igammac(half_degrees, x / 2);
  return std::log(std::max(q, std::numeric_limits<double>::min()));
}

void require_finite(const MatrixD& scores, const char* rows, std::span<const std::string> names) {
  for (Index l = 0; l < scores.cols(); ++l)
    for (Index i = 0; i < scores.rows(); ++i)
      if (!std::isfinite(scores(i, l)))
        throw std::domain_error(fmt::format("{} scores {} at row {} of the {}, expected a number",
                                            names[static_cast<std::size_t>(l)], scores(i, l), i,
                                            rows));
}

}  // namespace

void ScoreCombination::fit(CombinationRule rule, const MatrixD& id, const MatrixD& outliers,
                           std::span<const std::string> names) {
  *this = {};
  rule_ = rule;
  const Index n = id.rows(), m = id.cols();
  require_finite(id, "calibration rows", names);
  if (rule == CombinationRule::fisher || rule == CombinationRule::brown) {
    sorted_ = id.transpose();
    for (Index l = 0; l < m; ++l) std::sort(sorted_.row(l).begin(), sorted_.row(l).end());
    half_degrees_ = static_cast<double>(m);
    if (rule == CombinationRule::fisher) return;
    VectorD statistics(n);
    for (Index i = 0; i < n; ++i)
      statistics(i) = fisher_statistic({id.row(i).data(), static_cast<std::size_t>(m)});
    const double mean = statistics.mean();
    const double variance = (statistics.array() - mean).square().mean();
    if (!(variance > 0))
      throw std::domain_error(
          fmt::format("{} calibration rows have one p-value, expected several", n));
    statistic_scale_ = variance / (2 * mean);
    half_degrees_ = mean * mean / variance;
    return;
  }
  center_ = id.colwise().mean();
  scale_ = (id.rowwise() - center_.transpose()).array().square().colwise().mean().sqrt();
  for (Index l = 0; l < m; ++l)
    if (!(scale_(l) > 0))
      throw std::domain_error(
          fmt::format("{} scores all {} calibration rows {}, expected scores that vary",
                      names[static_cast<std::size_t>(l)], n, id(0, l)));
  if (rule != CombinationRule::learned) return;
  require_finite(outliers, "outliers", names);
  MatrixD x(n + outliers.rows(), m);
  x << id, outliers;
  x = (x.rowwise() - center_.transpose()).array().rowwise() / scale_.transpose().array();
  std::vector<std::int64_t> labels(static_cast<std::size_t>(x.rows()), 0);
  std::fill_n(labels.begin(), n, 1);
  std::vector<double> sample_weights(labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i)  // half of the weight on either side
    sample_weights[i] = 0.5 * static_cast<double>(x.rows()) /
                        static_cast<double>(labels[i] == 1 ? n : outliers.rows());
  const LogisticRegression learned = fit_logistic_regression(x, labels, sample_weights);
  weights_ = learned.weight;
  intercept_ = learned.intercept;
}

double ScoreCombination::fisher_statistic(std::span<const double> scores) const {
  const double n = static_cast<double>(sorted_.cols());
  double sum = 0;
  for (std::size_t l = 0; l < scores.size(); ++l) {
    const auto row = sorted_.row(static_cast<Index>(l));
    const auto below = std::upper_bound(row.begin(), row.end(), scores[l]) - row.begin();
    sum += std::log((1 + static_cast<double>(below)) / (n + 1));
  }
  return -2 * sum;
}

void ScoreCombination::require_members(Index members) const {
  const bool ranks = rule_ == CombinationRule::fisher || rule_ == CombinationRule::brown;
  const auto require = [&](const char* what, Index got) {
    if (got != members) throw_invalid("{} has {} entries, expected {}", what, got, members);
  };
  require(ranks ? "sorted" : "center", ranks ? sorted_.rows() : center_.size());
  if (!ranks) require("scale", scale_.size());
  if (rule_ == CombinationRule::learned) require("weights", weights_.size());
}

double ScoreCombination::combine(std::span<const double> scores) const {
  if (std::ranges::any_of(scores, [](double s) { return std::isnan(s); }))
    return std::numeric_limits<double>::quiet_NaN();
  if (rule_ == CombinationRule::fisher || rule_ == CombinationRule::brown)
    return log_survival(half_degrees_, fisher_statistic(scores) / statistic_scale_);
  double sum = 0, least = std::numeric_limits<double>::infinity(), logit = intercept_;
  for (std::size_t l = 0; l < scores.size(); ++l) {
    const auto at = static_cast<Index>(l);
    const double standardised = (scores[l] - center_(at)) / scale_(at);
    sum += standardised;
    least = std::min(least, standardised);
    if (rule_ == CombinationRule::learned) logit += weights_(at) * standardised;
  }
  if (rule_ == CombinationRule::learned) return logit;
  return rule_ == CombinationRule::mean ? sum / static_cast<double>(scores.size()) : least;
}

void ScoreCombination::visit(FieldVisitor& v) {
  auto rule = static_cast<Index>(rule_);
  v.state("combination_rule", rule);
  if (rule < 0 || rule >= std::ssize(kCombinationRules))
    throw_invalid("combination_rule has {}, expected [0, {})", rule, kCombinationRules.size());
  if (const auto shown = static_cast<CombinationRule>(rule); shown != rule_) rule_ = shown;
  v.state("center", center_);
  v.state("scale", scale_);
  v.state("sorted", sorted_);
  v.state("statistic_scale", statistic_scale_);
  v.state("half_degrees", half_degrees_);
  v.state("weights", weights_);
  v.state("intercept", intercept_);
}

void ScoreCombination::add_found(Diagnostics& found) const {
  if (rule_ == CombinationRule::learned)
    found.values.emplace_back("weights", std::vector<double>(weights_.begin(), weights_.end()));
  if (rule_ == CombinationRule::brown)
    found.values.emplace_back("degrees_of_freedom", 2 * half_degrees_);
}

}  // namespace ood
