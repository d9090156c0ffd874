#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>

#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/linear_head.h"
#include "ood/quantiles.h"

namespace ood {

/// Variational rectified activation (VRA, VRA+): the energy of features that are cut at both ends.
///
///   s(z) = log sum_c exp((W z' + b)_c)                        higher = more in-distribution
///   z'_j = 0 (`below` = zero) or l_j (clip)   where z_j < l_j
///          h_j                                where z_j > h_j
///          z_j + lift                         else
///
/// l and h are percentiles of each dimension or of all entries, or given numbers.
///
/// needs  features [n, D] and the head W [C, D], b [C] in fit (with given `thresholds` the head
///        alone), features in score
/// fit    four passes (three for scope = all): exact percentiles, as numpy.percentile interpolates
///        them (ood/quantiles.h)
/// score  features [m, D] -> out [m]; unit: logits
/// cost   fit O(n D), score O(m C D); state C D floats and 2 D doubles; in fit up to 1024 D counts
///        of 8 bytes for each thread and one more
/// errors std::invalid_argument: low above high
/// source Xu, Lian, Liu & Tao, NeurIPS 2023, arXiv:2302.11716, with the authors' percentiles for
///        CIFAR-10. `lift` is VRA+, as in their code, where h has no lift; VRA++, another score,
///        is not offered. Preset imagenet-resnet50: in the authors' code 0.5 and 1 are values of
///        the features there, not quantiles. OpenOOD and pytorch-ood raise what is low to l where
///        the paper takes 0: presets openood (percentiles 10 and 90 of all entries of the ID
///        validation set) and pytorch_ood (1 and 99 of each dimension).
class Vra final : public Detector {
 public:
  enum class Below { zero, clip };
  struct Options {
    double low = 60, high = 90;                      ///< percentiles, in [0, 100]
    QuantileScope scope = QuantileScope::dimension;  ///< of which entries
    Below below = Below::zero;                       ///< what becomes of entries below l
    double lift = 0;                                 ///< added to the entries in [l, h]
    Split split = Split::train;                      ///< whose percentiles
    std::vector<double> thresholds;                  ///< l and h of all dimensions; empty: from the
                                                     ///< percentiles
  };
  static constexpr std::string_view kName = "vra";
  Vra() = default;
  explicit Vra(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = options_.thresholds.empty(), .head = true},
            .score = {.features = true},
            .split = options_.split};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Vra>(*this); }
  std::vector<Preset> presets() const override;

  void visit(FieldVisitor& v) override;

 private:
  void fit_state(BatchSource& source, const Exec& exec) override;
  bool bound_by_products() const override { return true; }
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;

  Options options_;
  VectorD low_, high_;  // l, h [D]
  LinearHead head_;
};

}  // namespace ood
