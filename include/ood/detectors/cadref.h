#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/predicted_class_means.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/margins.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Class-aware decoupled relative feature error: caref with the deviations that raise the logit of
/// the predicted class weighed by how confident the network is.
///
///   s(z, f) = -(E_p / S(f) + E_n / S_mean),   y = argmax_c f_c
///                                                             higher = more in-distribution
///   E_p  = sum_j max(0,  sign(w_yj) (z - mu_y)_j) / |z|_1
///   E_n  = sum_j max(0, -sign(w_yj) (z - mu_y)_j) / |z|_1
///   mu_c = mean of the training rows i with argmax f_i = c,   S_mean = 1/n sum_i S(f_i)
///   S    = log sum_c exp f_c (energy), max_c f_c (max_logit), max_c p_c (msp), p = softmax(f), or
///          1 / sum over the max(10, C / 10) largest p of (p (1 - p))^0.1 (gen)
///
/// 0 / 0 counts as 0: a row of zeros scores -infinity, and 0 if it has no error either.
///
/// needs  features [n, D], logits [n, C] and the head W [C, D] in fit, features and logits in
///        score; a row predicted as each class
/// fit    two passes: class means in float64, rounded to float32; the mean of S
/// score  features [m, D], logits [m, C] -> out [m]; <= 0
/// cost   fit O(n (C + D)), score O(m (C + D)); state 2 C D floats, in fit C D doubles for each
///        thread
/// errors std::domain_error: a class that is predicted for no row of the fit; S_mean that is not
///        above 0 (logits all far below 0: take another confidence)
/// source Ling et al., CVPR 2025, arXiv:2503.00325, and the authors' code, whose default is energy.
///        A deviation: energies and logits may be 0 or below, where the quotient of the paper and
///        the code changes its sign, so that the least confident rows come first. Here E_p / S is
///        then infinite, its limit for S -> 0: the score is -infinity. 1 - p is taken without
///        cancellation in gen.
class Cadref final : public Detector {
 public:
  enum class Confidence { energy, max_logit, msp, gen };
  struct Options {
    Confidence confidence = Confidence::energy;  ///< S
  };
  static constexpr std::string_view kName = "cadref";
  Cadref() = default;
  explicit Cadref(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = true, .head = true},
            .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Cadref>(*this); }

  void visit(FieldVisitor& v) override {
    constexpr std::array<std::string_view, 4> kConfidences = {"energy", "max_logit", "msp", "gen"};
    v.option("confidence", options_.confidence, kConfidences, "S, what weighs the errors");
    v.state("mean_confidence", mean_confidence_);
    v.state("means", means_);
    v.state("weight", weight_);
  }

 private:
  /// S of each row of logits.
  static void confidences(Confidence kind, const MatrixView& logits, std::span<float> out) {
    switch (kind) {
      case Confidence::energy:
        return kernels::row_log_sum_exp(logits, 1.0f, out);
      case Confidence::max_logit:
        return kernels::row_max(logits, out);
      case Confidence::msp:
        kernels::row_log_max_probability(logits, 1.0f, out);
        return kernels::exponentiate(out);
      case Confidence::gen:
        kernels::row_generalized_entropy(logits, 0.1f, std::max(Index{10}, logits.cols() / 10),
                                         out);
        return kernels::invert(out);
    }
  }

  /// Sums S over rows.
  class ConfidenceSum {
   public:
    ConfidenceSum() = default;
    explicit ConfidenceSum(Confidence kind) : kind_(kind) {}

    Inputs inputs() const { return {.logits = true}; }

    void add(const Batch& batch) {
      std::vector<float> values(static_cast<std::size_t>(batch.logits->rows()));
      confidences(kind_, *batch.logits, values);
      for (const float s : values) sum_ += static_cast<double>(s);
      rows_ += batch.logits->rows();
    }
    void merge(const ConfidenceSum& other) {
      sum_ += other.sum_;
      rows_ += other.rows_;
    }
    double mean() const { return sum_ / static_cast<double>(rows_); }
    void visit(FieldVisitor& v) {
      v.state("sum", sum_);
      v.state("rows", rows_);
    }

   private:
    Confidence kind_ = Confidence::energy;
    double sum_ = 0;
    Index rows_ = 0;
  };

  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    means_ =
        reduce(source, PredictedClassMeans(info.classes, info.dim), exec).means().cast<float>();
    weight_ = source.head()->weight;
    mean_confidence_ = reduce(source, ConfidenceSum(options_.confidence), exec).mean();
    if (!(mean_confidence_ > 0) || !std::isfinite(mean_confidence_))
      throw std::domain_error("the mean confidence is " + std::to_string(mean_confidence_) +
                              ", expected a number above 0");
  }

  void prepare() override {
    for (const Matrix* state : {&means_, &weight_}) {
      require_size("means or weight, in rows", state->rows(), fitted_classes());
      require_size("means or weight, in columns", state->cols(), fitted_dim());
    }
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::span<Index> predicted = scratch.span<Index>(tile.rows());
    kernels::row_argmax(*tile.logits, predicted);
    confidences(options_.confidence, *tile.logits, out);
    kernels::row_relative_error(*tile.features, predicted, means_, weight_, out, mean_confidence_,
                                out);
  }
  Diagnostics found() const override {
    return {.values = {{"mean_confidence", mean_confidence_}}, .per_class = {}, .warnings = {}};
  }

  Options options_;
  double mean_confidence_ = 0;  // S_mean
  Matrix means_;                // mu [C, D]
  Matrix weight_;               // W [C, D]
};

}  // namespace ood
