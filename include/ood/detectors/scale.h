#pragma once

#include <span>

#include "ood/activation_shaping.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/linear_head.h"
#include "ood/scratch.h"

namespace ood {

/// SCALE: the energy of features that are scaled by how much of their sum the largest hold.
///
///   s(z) = log sum_c exp((W z exp(s1 / s2) + b)_c)            higher = more in-distribution
///   s1   = sum_j z_j,   s2 = the sum of the k largest
///   k    = D - round(D percentile / 100), ties to even, at least 1
///
/// s1 / s2 is 1 for a row of zeros.
///
/// needs  the head W [C, D], b [C] in fit, features [m, D] >= 0 in score
/// fit    nothing but the head
/// score  features [m, D] -> out [m]; unit: logits
/// cost   score O(m C D), the k largest in O(m D); state C D floats
/// errors std::domain_error, in score: a negative entry, where s2 may be near 0 or below and its
///        exponential means nothing. The way out: `relu` = true
/// source Xu, Chen, Franchi & Yao, ICLR 2024. OpenOOD: the same, and tries 65 to 95; pytorch-ood
///        takes 65 (preset pytorch_ood). None of them checks the sign. exp(s1 / s2) is taken in
///        float64 and is at most exp(D / k); finite rows where scaled features or logits overflow
///        float32 (3.4e38) score NaN.
class Scale final : public Detector {
 public:
  struct Options {
    double percentile = 85;  ///< of the entries of a row that s2 leaves out, in [0, 100]
    bool relu = false;       ///< negative entries count as 0
  };
  static constexpr std::string_view kName = "scale";
  Scale() = default;
  explicit Scale(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {.head = true}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Scale>(*this); }
  std::vector<Preset> presets() const override {
    return {{"pytorch_ood", {{"percentile", 65.0}}, "as pytorch-ood"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("percentile", options_.percentile,
             Range{.min = 0, .max = 100}.swept({65, 70, 75, 80, 85, 90, 95}),
             "of the entries of a row that s2 leaves out");
    v.option("relu", options_.relu, "take negative entries for 0, which else are an error");
    head_.visit(v);
  }

 private:
  void fit_state(BatchSource& source, const Exec&) override { head_.fit(*source.head()); }
  bool bound_by_products() const override { return true; }
  void prepare() override { head_.prepare(precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap z = scratch.matrix(tile.rows(), tile.features->cols());
    MatrixMap logits = scratch.matrix(z.rows(), head_.classes());
    non_negative_rows(tile, options_.relu, z);
    const Index k = kept_entries(z.cols(), options_.percentile);
    const std::span<double> ratios = scratch.span<double>(z.rows());
    row_sum_ratios(z, k, ratios);
    scale_rows(z, ratios, z);
    head_.logits(z, logits);
    kernels::row_log_sum_exp(logits, 1.0f, out);
  }

  Options options_;
  LinearHead head_;
};

}  // namespace ood
