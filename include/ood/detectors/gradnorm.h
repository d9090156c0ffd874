#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/scratch.h"

namespace ood {

/// Norm of the gradient with respect to the last layer's weights of how far the softmax is from
/// uniform.
///
///   s(z, f) = |d KL(u || p) / dW|_1 = |z|_1 |p - u|_1 / T,   p = softmax(f / T),   u_c = 1 / C
///                                                             higher = more in-distribution
///
/// needs  features [m, D] and logits [m, C] in score
/// fit    nothing
/// score  features [m, D], logits [m, C] -> out [m]; >= 0
/// cost   score O(m (C + D))
/// source Huang, Geng & Li, NeurIPS 2021, arXiv:2110.00218, with T = 1 and the gradient of the last
///        layer's weights, in the closed form that follows. That of the bias does not count, as
///        there. OpenOOD's loss sums over classes where the paper's KL takes the mean: C
///        times this score (the same order). pytorch-ood takes the parameters of any layers, by
///        differentiation. In float32: |p - u|_1 = sum_c |t_c - mean t| / sum_c (1 + t_c) with t_c =
///        exp((f_c - max f) / T) - 1, which keeps its relative accuracy where p is nearly uniform
///        (ood/kernels.h).
class GradNorm final : public Detector {
 public:
  struct Options {
    double temperature = 1.0;  ///< T, in [1e-6, 1e6]
  };
  static constexpr std::string_view kName = "gradnorm";
  GradNorm() = default;
  explicit GradNorm(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.features = true, .logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<GradNorm>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("temperature", options_.temperature, Range{.min = 1e-6, .max = 1e6},
             "T; 1 in the paper");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::span<float> lengths = scratch.span<float>(tile.rows());
    kernels::row_sum_of_absolutes(*tile.features, lengths);
    kernels::row_distance_from_uniform(*tile.logits, static_cast<float>(options_.temperature), out);
    kernels::multiply(lengths, out, options_.temperature, out);
  }

  Options options_;
};

}  // namespace ood
