#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/row_mean.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/linear_head.h"
#include "ood/quantiles.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// DICE: the energy of logits that are made of the weights that contribute most.
///
///   s(z) = log sum_c exp(((W * M) z + b)_c)                   higher = more in-distribution
///   V_cj = W_cj mu_j,   mu = 1/n sum_i z_i
///   M_cj = 1 where V_cj is above the percentile of all C D entries of V, else 0
///
/// needs  features [n, D] and the head W [C, D], b [C] in fit, features in score
/// fit    one pass: mu in float64
/// score  features [m, D] -> out [m]; unit: logits. One product with the masked weights
/// cost   fit O(n D + C D), score O(m C D); state C D floats; in fit C D doubles
/// errors std::domain_error: a percentile that leaves no weight
/// source Sun & Li, ECCV 2022, arXiv:2111.09805, with the authors' percentile for CIFAR; preset
///        imagenet: theirs for ImageNet. OpenOOD and pytorch-ood: the same formula, by an array of
///        m x C x D numbers; OpenOOD's search over the percentile does not make the mask anew.
///        detectors takes the largest raw weights of each class instead.
class Dice final : public Detector {
 public:
  struct Options {
    double percentile = 90;  ///< of the contributions, in [0, 100]
  };
  static constexpr std::string_view kName = "dice";
  Dice() = default;
  explicit Dice(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .head = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Dice>(*this); }
  std::vector<Preset> presets() const override {
    return {{"imagenet", {{"percentile", 70.0}}, "the authors' percentile for ImageNet"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("percentile", options_.percentile, Range{.min = 0, .max = 100}.swept({50, 70, 90}),
             "of the contributions: weights at or below are left out");
    v.state("kept", kept_);
    head_.visit(v);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const Head& head = *source.head();
    const VectorD mu = reduce(source, RowMean(source.info().dim), exec).mean();
    const MatrixD contribution = head.weight.cast<double>() * mu.asDiagonal();
    const double* first = contribution.data();
    const double threshold =
        percentile(std::vector<double>(first, first + contribution.size()), options_.percentile);
    kept_ = (contribution.array() > threshold).count();
    if (kept_ == 0)
      throw std::domain_error("percentile has " + to_text(options_.percentile) +
                              ", which leaves 0 of " + std::to_string(contribution.size()) +
                              " weights, expected 1 or more");
    const Matrix masked = (contribution.array() > threshold).select(head.weight, 0.0f);
    head_.fit({.weight = masked, .bias = head.bias});
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { head_.prepare(precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap logits = scratch.matrix(tile.rows(), head_.classes());
    head_.logits(*tile.features, logits);
    kernels::row_log_sum_exp(logits, 1.0f, out);
  }
  Diagnostics found() const override {
    return {.values = {{"kept", kept_}}, .per_class = {}, .warnings = {}};
  }

  Options options_;
  Index kept_ = 0;   // weights that the mask leaves
  LinearHead head_;  // W * M, b
};

}  // namespace ood
