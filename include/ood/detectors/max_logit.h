#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Maximum logit.
///
///   s(f) = max_c f_c                                          higher = more in-distribution
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; unit: logits
/// cost   score O(m C)
/// source Hendrycks et al., ICML 2022, arXiv:1911.11132, "MaxLogit". No deviation.
class MaxLogit final : public Detector {
 public:
  static constexpr std::string_view kName = "max_logit";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<MaxLogit>(*this); }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_max(*tile.logits, out);
  }
};

}  // namespace ood
