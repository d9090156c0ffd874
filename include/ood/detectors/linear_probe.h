#pragma once

#include "ood/detector.h"

namespace ood {

/// Logistic regression of in-distribution features against those of known outliers.
///
///   s(z) = <v, (z - m) / d> + b      the log odds of being in-distribution
///   (v, b) = argmin C sum_i w_i log(1 + exp(-y_i (<v, x_i> + b))) + |v|_2^2 / 2,
///   x_i = (z_i - m) / d, y_i = 1 in-distribution, -1 outlier     higher = more in-distribution
///
/// m and d are mean and standard deviation of each feature over the rows, both sides of equal
/// weight (a feature that does not vary: d = 1); w gives both sides the weight of half the rows.
///
/// needs  features of id_val (rows that the network was not trained on: those of train lie
///        elsewhere) and of validation outliers, a dozen of them or more; features in score. Sets
///        of /ood are never read
/// fit    up to `rows` in-distribution rows, a seeded random sample, and as many outliers are kept
///        for the fit; then a truncated Newton search (ood/logistic_regression.h). The diagnostics
///        have the AUROC of a `folds`-fold cross-validation on the examples: of outliers like
///        these, not of others. A row's fold is its place in the sample modulo `folds`; scores of
///        one fold are compared with each other, and the AUROCs are averaged
/// score  features [m, D] -> out [m]; unit: log odds
/// cost   fit O((folds + 1) rows D) for each of some hundred products; memory some 6 rows D doubles in fit;
///        score O(m D)
/// errors std::domain_error: no outliers
/// source scikit-learn's LogisticRegression(C, class_weight = "balanced") after a StandardScaler.
///        Logistic regression on a layer against examples of outliers is how Lee et al., NeurIPS
///        2018, arXiv:1807.03888, learn their weights (there of layers, not of features). For several
///        layers, one probe for each: detector `layers` with `detector` = linear_probe.
class LinearProbe final : public Detector {
 public:
  struct Options {
    double c = 1;        ///< C, the inverse strength of the l2 penalty
    Index rows = 10000;  ///< most rows of either side that are fitted on
    Index folds = 5;     ///< of the cross-validation; fewer where there are fewer rows
    Index seed = 0;      ///< of the choice of rows
  };
  static constexpr std::string_view kName = "linear_probe";
  LinearProbe() = default;
  explicit LinearProbe(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true},
            .score = {.features = true},
            .split = Split::id_val,
            .outliers = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<LinearProbe>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("c", options_.c, Range::above(0).swept({0.001, 0.01, 0.1, 1, 10}),
             "inverse strength of the l2 penalty");
    v.option("rows", options_.rows, Range::at_least(2), "most rows of either side to fit on");
    v.option("folds", options_.folds, Range::at_least(2), "of the cross-validation");
    v.option("seed", options_.seed, Range::at_least(0), "of the choice of rows");
    v.state("weight", weight_);
    v.state("intercept", intercept_);
    v.state("cv_auroc", cv_auroc_);
    v.state("id_rows", id_rows_);
    v.state("outlier_rows", outlier_rows_);
    v.state("converged", converged_);
  }

 private:
  void fit_data(const FitData& data, const Exec& exec) override;
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;
  Diagnostics found() const override;

  Options options_;
  VectorD weight_;        // v / d
  double intercept_ = 0;  // b - <v / d, m>
  double cv_auroc_ = 0;   // NaN: too few rows
  Index id_rows_ = 0, outlier_rows_ = 0;
  Index converged_ = 0;
};

}  // namespace ood
