#pragma once

#include "ood/copies.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

namespace ood {

/// Energy of the mean logits of K copies.
///
///   s(f) = log sum_c exp(g_c),   g = 1/K sum_k f^k           higher = more in-distribution
///
/// needs  copies/logits [K, m, C] in score, K >= 1
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; unit: logits
/// cost   score O(K m C)
/// errors std::invalid_argument: no copies
/// source Energy (Liu et al., NeurIPS 2020, arXiv:2010.03759) of an ensemble's logits, which
///        torch-uncertainty has for one model alone. g is rounded to float32.
class MeanLogitEnergy final : public Detector {
 public:
  static constexpr std::string_view kName = "mean_logit_energy";
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.copy_logits = true}}; }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<MeanLogitEnergy>(*this);
  }

  void visit(FieldVisitor&) override {}

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    require_copies(*tile.copy_logits, "copies/logits", 1);
    Scratch scratch;
    MatrixMap mean = scratch.matrix(tile.rows(), copy_rows(*tile.copy_logits, 0).cols());
    mean_of_copies(*tile.copy_logits, mean);
    kernels::row_log_sum_exp(mean, 1.0f, out);
  }
};

}  // namespace ood
