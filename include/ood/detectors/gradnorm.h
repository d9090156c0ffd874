#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "ood/detector.h"
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
///        differentiation. In float64: |p - u|_1 = sum_c |e_c - mean e| / sum_c e_c with e_c =
///        exp((f_c - max f) / T), exact to 1e-15.
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
    VectorDMap f_row = scratch.vector_d(tile.logits->cols()),
               e_row = scratch.vector_d(f_row.size());
    auto f = f_row.array(), e = e_row.array();
    for (Index i = 0; i < std::ssize(out); ++i) {
      f = tile.logits->row(i).transpose().cast<double>();
      const double length = tile.features->row(i).cast<double>().lpNorm<1>();
      float& s = out[static_cast<std::size_t>(i)];
      if (!std::isfinite(length) || !std::isfinite(f.sum())) {
        s = std::numeric_limits<float>::quiet_NaN();
        continue;
      }
      e = ((f - f.maxCoeff()) / options_.temperature).exp();
      const double from_uniform = (e - e.mean()).abs().sum() / e.sum();
      s = static_cast<float>(length * from_uniform / options_.temperature);
    }
  }

  Options options_;
};

}  // namespace ood
