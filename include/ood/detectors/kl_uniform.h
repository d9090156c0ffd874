#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Divergence of the softmax from the uniform distribution.
///
///   s(f) = KL(u || p) = -1/C sum_c log p_c - log C,   p = softmax(f), u_c = 1/C
///                                                             higher = more in-distribution
///
/// Confident rows are far from uniform. Unlike the entropy, which is log C - KL(p || u), the sum
/// weighs all classes alike: how improbable the improbable ones are is what counts.
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; unit: nats, >= 0; 0 for C = 1
/// cost   score O(m C)
/// source The divergence whose gradient GradNorm takes (Huang, Geng & Li, NeurIPS 2021,
///        arXiv:2110.00218), itself as a score: a distance to uniform (Yilmaz & Toraman, NAACL
///        2022) without their learning. There is no temperature. Others return the cross entropy
///        -1/C sum_c log p_c, which is log C more: the same order. Taken relative to the largest
///        logit, so that an offset of all logits costs no digits.
class KlUniform final : public Detector {
 public:
  static constexpr std::string_view kName = "kl_uniform";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<KlUniform>(*this); }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_divergence_from_uniform(*tile.logits, out);
  }
};

}  // namespace ood
