#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Free energy, negated.
///
///   s(f) = T log sum_c exp(f_c / T)                           higher = more in-distribution
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; unit: logits
/// cost   score O(m C)
/// source Liu et al., NeurIPS 2020, arXiv:2010.03759: the negative free energy -E(x; f), the score
///        of that paper. No deviation; T = 1 as there.
class Energy final : public Detector {
 public:
  struct Options {
    double temperature = 1.0;  ///< T, in [1e-6, 1e6]
  };
  static constexpr std::string_view kName = "energy";
  Energy() = default;
  explicit Energy(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Energy>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("temperature", options_.temperature, Range{.min = 1e-6, .max = 1e6},
             "T; 1 in the paper");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_log_sum_exp(*tile.logits, static_cast<float>(options_.temperature), out);
  }

  Options options_;
};

}  // namespace ood
