#pragma once

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Maximum softmax probability, as its logarithm.
///
///   s(f) = max_c log p_c,   p = softmax(f / T)                higher = more in-distribution
///
/// needs  logits [m, C] in score
/// fit    nothing
/// score  logits [m, C] -> out [m]; unit: nats, <= 0
/// cost   score O(m C)
/// source Hendrycks & Gimpel, ICLR 2017, arXiv:1610.02136, with T = 1. There the score is p_max
///        itself: the same order, but in float32 p_max is exactly 1 from a margin of 17 T on, and
///        such samples tie. log p_max = -log1p(sum of the other exp((f_c - f_max) / T)) keeps them
///        apart, up to a margin of about 103 T, where it underflows in its turn.
///        Preset mcm: Ming et al., NeurIPS 2022, arXiv:2211.13445. The same formula where f_c is
///        the cosine similarity of an image to the text of class c; T = 1 as in the authors' code
///        and in OpenOOD. Logits that carry a scale, as CLIP's own carry 100, need that times T.
class Msp final : public Detector {
 public:
  struct Options {
    double temperature = 1.0;  ///< T, in [1e-6, 1e6]
  };
  static constexpr std::string_view kName = "msp";
  Msp() = default;
  explicit Msp(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Msp>(*this); }
  std::vector<Preset> presets() const override {
    return {{"mcm", {{"temperature", 1.0}}, "maximum concept matching: logits are cosines"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("temperature", options_.temperature,
             Range{.min = 1e-6, .max = 1e6}.swept({0.01, 1, 10}), "T; 1 in the paper");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_log_max_probability(*tile.logits, static_cast<float>(options_.temperature), out);
  }

  Options options_;
};

}  // namespace ood
