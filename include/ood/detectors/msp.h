#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Maximum softmax probability, as its logarithm.
///
///   s(f) = max_c log p_c,   p = softmax(f)                    higher = more in-distribution
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; unit: nats, <= 0
/// cost   score O(m C)
/// source Hendrycks & Gimpel, ICLR 2017, arXiv:1610.02136. There the score is p_max itself: the
///        same order, but in float32 p_max is exactly 1 from a margin of 17 on, and such samples
///        tie. log p_max = -log1p(sum of the other exp(f_c - f_max)) keeps them apart, up to
///        a margin of about 103, where it underflows in its turn.
class Msp final : public Detector {
 public:
  static constexpr std::string_view kName = "msp";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Msp>(*this); }

  void visit(FieldVisitor&) override {}

 private:
  void fit_state(BatchSource&, const Exec&) override {}
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_log_max_probability(*tile.logits, out);
  }
};

}  // namespace ood
