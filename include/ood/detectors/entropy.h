#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Entropy of the softmax, negated.
///
///   s(f) = sum_c p_c log p_c,   p = softmax(f)                higher = more in-distribution
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; unit: nats, in [-log C, 0]
/// cost   score O(m C)
/// source Macedo et al., arXiv:1908.05569, the "entropic score"; not divided by log C, as there. In
///        the log-softmax form: a term is 0 where p underflows, where the product form of other
///        libraries gives NaN. Underflows to 0 from a margin of about 103 on, as log p_max does.
class Entropy final : public Detector {
 public:
  static constexpr std::string_view kName = "entropy";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Entropy>(*this); }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_negative_entropy(*tile.logits, out);
  }
};

}  // namespace ood
