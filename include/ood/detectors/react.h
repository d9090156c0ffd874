#pragma once

#include <array>
#include <string_view>

#include "ood/activation_shaping.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/linear_head.h"
#include "ood/quantiles.h"
#include "ood/scratch.h"

namespace ood {

/// ReAct: the energy of features that are cut off at a threshold.
///
///   s(z) = log sum_c exp((W z' + b)_c),   z'_j = min(z_j, t)  higher = more in-distribution
///
/// needs  features [n, D] and the head W [C, D], b [C] in fit (with a given `threshold` the head
///        alone), features in score
/// fit    three passes: t is a percentile of all n D entries, exactly, as numpy.percentile
///        interpolates it (ood/quantiles.h)
/// score  features [m, D] -> out [m]; unit: logits
/// cost   fit O(n D), score O(m C D); state C D floats
/// source Sun, Guo & Li, NeurIPS 2021: the 90th percentile of the training features; OpenOOD tries
///        85, 90, 95, 99. Preset openood: the percentile of the ID validation set. Preset
///        pytorch_ood: t = 1, whatever the features are. detectors takes 90 of the first 2.56
///        million training entries, oodeel 80 of the training rows.
class ReAct final : public Detector {
 public:
  struct Options {
    double percentile = 90;      ///< of all entries, in [0, 100]
    Split split = Split::train;  ///< whose percentile
    double threshold = 0;        ///< t; 0: from the percentile
  };
  static constexpr std::string_view kName = "react";
  ReAct() = default;
  explicit ReAct(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = options_.threshold == 0, .head = true},
            .score = {.features = true},
            .split = options_.split};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<ReAct>(*this); }
  std::vector<Preset> presets() const override {
    return {{"openood", {{"split", "id_val"}}, "as OpenOOD: the percentile of the validation set"},
            {"pytorch_ood", {{"threshold", 1.0}}, "as pytorch-ood: t = 1"}};
  }

  /// t.
  double clip() const { return clip_; }

  void visit(FieldVisitor& v) override {
    v.option("percentile", options_.percentile, Range{.min = 0, .max = 100}.swept({85, 90, 95, 99}),
             "of all entries: t");
    v.option("split", options_.split, kFitSplits, "whose percentile");
    v.option("threshold", options_.threshold, Range::at_least(0), "t; 0: from the percentile");
    v.state("clip", clip_);
    head_.visit(v);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    head_.fit(*source.head());
    const std::array<double, 1> percentiles = {options_.percentile};
    clip_ = options_.threshold != 0
                ? options_.threshold
                : feature_percentiles(source, percentiles, QuantileScope::all, exec)(0, 0);
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { head_.prepare(precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap z = scratch.matrix(tile.rows(), tile.features->cols());
    MatrixMap logits = scratch.matrix(z.rows(), head_.classes());
    clip_rows(*tile.features, static_cast<float>(clip_), z);
    head_.logits(z, logits);
    kernels::row_log_sum_exp(logits, 1.0f, out);
  }
  Diagnostics found() const override {
    return {.values = {{"clip", clip_}}, .per_class = {}, .warnings = {}};
  }

  Options options_;
  double clip_ = 0;  // t
  LinearHead head_;
};

}  // namespace ood
