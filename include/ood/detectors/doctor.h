#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Sum of squared softmax probabilities (DOCTOR), less 1.
///
///   s(f) = sum_c p_c^2 - 1 = -sum_c p_c (1 - p_c),   p = softmax(f / T)
///                                                             higher = more in-distribution
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; in [1/C - 1, 0]
/// cost   score O(m C)
/// source Granese et al., NeurIPS 2021, arXiv:2106.02395, D_alpha in a totally black box. There the
///        score is (1 - g) / g with g = sum_c p_c^2, lower = more in-distribution: the same order,
///        as s = g - 1. The perturbation of the input, which the paper adds where gradients are at
///        hand, is left out; T = 1 as there without it. D_beta of the paper is the order of msp. In
///        float32 g is exactly 1 from a margin of 17 T on; s is taken without cancellation, so that
///        such samples do not tie, up to a margin of about 103 T. The library detectors returns
///        g - 1 too, by subtraction. GEN with gamma = 1 and all classes is this score at T = 1.
class Doctor final : public Detector {
 public:
  struct Options {
    double temperature = 1.0;  ///< T, in [1e-6, 1e6]
  };
  static constexpr std::string_view kName = "doctor";
  Doctor() = default;
  explicit Doctor(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Doctor>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("temperature", options_.temperature, Range{.min = 1e-6, .max = 1e6},
             "T; 1 in the paper");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_negative_gini(*tile.logits, static_cast<float>(options_.temperature), out);
  }

  Options options_;
};

}  // namespace ood
