#pragma once

#include <array>

#include "ood/copies.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

namespace ood {

/// Maximum softmax probability of the mean of K copies, as its logarithm.
///
///   s(f) = max_c log 1/K sum_k p^k_c,   p^k = softmax(f^k)    higher = more in-distribution
///   s(f) = max_c log softmax(1/K sum_k f^k)_c                 mean = logits
///
/// needs  copies/logits [K, m, C] in score, K >= 1
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; unit: nats, <= 0
/// cost   score O(K m C)
/// errors std::invalid_argument: no copies
/// source Lakshminarayanan et al., NeurIPS 2017, arXiv:1612.01474 (deep ensembles): the mean of the
///        probabilities, as in pytorch-ood and torch-uncertainty. OpenOOD takes the mean of the
///        logits, for dropout and for ensembles (preset `openood`). There the score is the
///        probability itself: the same order, but it ties where it rounds to 1. The mean logits are
///        rounded to float32.
class MeanMsp final : public Detector {
 public:
  enum class Mean { probabilities, logits };
  static constexpr std::array<std::string_view, 2> kMeans = {"probabilities", "logits"};

  struct Options {
    Mean mean = Mean::probabilities;
  };
  static constexpr std::string_view kName = "mean_msp";
  MeanMsp() = default;
  explicit MeanMsp(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.copy_logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<MeanMsp>(*this); }
  std::vector<Preset> presets() const override {
    using namespace std::string_literals;
    return {{"openood", {{"mean", "logits"s}}, "as OpenOOD has it for dropout and ensembles"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("mean", options_.mean, kMeans, "what is averaged over the copies");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    const Tensor3View& logits = *tile.copy_logits;
    require_copies(logits, "copies/logits", 1);
    if (options_.mean == Mean::logits) {
      Scratch scratch;
      MatrixMap mean = scratch.matrix(tile.rows(), copy_rows(logits, 0).cols());
      mean_of_copies(logits, mean);
      kernels::row_log_max_probability(mean, 1.0f, out);
    } else {
      score_probabilities(logits, ProbabilityStatistic::log_largest_mean, out);
    }
  }

  Options options_;
};

}  // namespace ood
