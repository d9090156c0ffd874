#pragma once

#include <vector>

#include "ood/detector.h"
#include "ood/linear_head.h"

namespace ood {

/// Optimal feature shaping (OptFS): the energy of features that are weighted by their size.
///
///   s(z)      = log sum_c exp((W z' + b)_c),   z'_j = theta_{k(z_j)} z_j
///                                                             higher = more in-distribution
///   k(x)      = floor((x - l) / w),   w = (h - l) / 100: 100 bins between the quantiles l, h of
///               0.001 and 0.999 of all n D training entries; outside of them z'_j = 0
///   theta_k   = 1000 g_k / |g|_2
///   g_k       = 1/n sum_i sum_{j: k(z_ij) = k} W_{y_i j} z_ij,   y_i = argmax_c f_ic
///
/// needs  features [n, D], logits [n, C] and the head W [C, D], b [C] in fit, features in score
/// fit    four passes: exact quantiles (ood/quantiles.h), then g in float64
/// score  features [m, D] -> out [m]; unit: logits, on the scale that |theta| = 1000 makes
/// cost   fit O(n D), score O(m C D); state C D floats and 100 doubles
/// errors std::domain_error: l = h, so that there are no bins; g = 0
/// source Zhao et al., ICLR 2024, arXiv:2402.00865, with fixed weights, and the numbers of the
///        authors' code. It adds the width up from l, so that rounding may give a 101st bin there
///        and moves the edges in the last digits.
class OptFs final : public Detector {
 public:
  static constexpr std::string_view kName = "optfs";
  static constexpr Index kBins = 100;
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = true, .head = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<OptFs>(*this); }

  void visit(FieldVisitor& v) override {
    v.state("left", left_);
    v.state("width", width_);
    v.state("theta", theta_);
    head_.visit(v);
  }

 private:
  class Contributions;

  void fit_state(BatchSource& source, const Exec& exec) override;
  bool bound_by_products() const override { return true; }
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;

  double left_ = 0, width_ = 0;  // l, w
  VectorD theta_;                // [kBins]
  LinearHead head_;
};

}  // namespace ood
