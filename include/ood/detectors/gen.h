#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Generalized entropy (GEN).
///
///   s(f) = -sum over the M largest p_c of p_c^gamma (1 - p_c)^gamma,   p = softmax(f)
///                                                             higher = more in-distribution
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; <= 0
/// cost   score O(m C)
/// source Liu, Lochman & Zach, CVPR 2023, with its gamma = 0.1 and M = 100 (of 1,000 classes); all
///        classes count where C < M. 1 - p_max is taken without cancellation, where other libraries
///        clip p to [1e-7, 1 - 1e-7] and lose confident samples to ties. Preset pytorch_ood: all
///        classes, whatever C is (there the mean instead of the sum: the same order).
class Gen final : public Detector {
 public:
  struct Options {
    double gamma = 0.1;  ///< exponent > 0
    Index top_m = 100;   ///< M >= 1
  };
  static constexpr std::string_view kName = "gen";
  Gen() = default;
  explicit Gen(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Gen>(*this); }

  std::vector<Preset> presets() const override {
    return {{"pytorch_ood", {{"top_m", Index{1} << 40}}, "as pytorch-ood: all classes"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("gamma", options_.gamma,
             Range{.min = 1e-6, .max = 1e3}.swept({0.01, 0.1, 0.5, 1, 2, 5, 10}),
             "exponent; 0.1 in the paper");
    v.option("top_m", options_.top_m, Range::at_least(1).swept({10, 50, 100, 200, 500, 1000}),
             "M, how many of the largest probabilities count; more than C means all");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_generalized_entropy(*tile.logits, static_cast<float>(options_.gamma),
                                     options_.top_m, out);
  }

  Options options_;
};

}  // namespace ood
