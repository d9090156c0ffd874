#pragma once

#include <vector>

#include "ood/detector.h"
#include "ood/kernels.h"

namespace ood {

/// Neuron activation coverage (NAC-UE) of the last layer: how often training rows put each neuron
/// into the state in which it is.
///
///   s(z, f) = 1/D sum_j min(count_j(bin(a_j)) / saturation, 1)
///                                                             higher = more in-distribution
///   a_j   = sigmoid(alpha z_j g_j)
///   g     = W^T (p - 1/C),  p = softmax(f): the gradient by z of KL(u || p), u = 1/C
///   count = the training rows that were counted, by neuron and bin of a_j
///   bins of [0, 1] meet at t_2 .. t_{h-1}, 1/2, 1 - t_{h-1} .. 1 - t_2, h = bins / 2 rounded down,
///           t_k = log(1 + (k - 1)(sqrt(1000) - 1) / (h - 1)) / log(1000): wide at 0 and 1, narrow
///           at 1/2; each holds its lower end
///
/// needs  features [n, D], logits [n, C] and the head W [C, D] in fit, features and logits in score
/// fit    one pass: counts of `rows` training rows drawn by `seed`, of all with rows = 0
/// score  features [m, D], logits [m, C] -> out [m]; in [0, 1]
/// cost   fit O(n D C), score O(m D (C + log bins)); state D bins + C D floats; in fit D bins
///        doubles for each thread
/// source Liu et al., ICLR 2024, arXiv:2306.02879, NAC-UE of the layer before the last linear one,
///        with its settings for CIFAR-10; presets `cifar100` and `imagenet-resnet50` are others. The
///        paper adds up layers; the gradients of deeper ones are not stored, that of this one has
///        the closed form above. States are compared as arguments of the sigmoid, which does not
///        round them to 0, 1/2 and 1. The bins are those of the published code for OpenOOD, where
///        50 mean 48 and one above 1 that stays empty; the authors' first code has equal bins.
///        There the 1,000 rows are balanced over the classes; here they are drawn from all, so that
///        no labels are needed. pytorch-ood (not offered) has geometric bins, narrow at 0 and 1, and counts all
///        rows.
class Nac final : public Detector {
 public:
  struct Options {
    Index bins = 50;        ///< 6 or more
    Index saturation = 50;  ///< rows that make a bin wholly covered
    double alpha = 100.0;   ///< steepness of the sigmoid, in (0, 1e9]
    Index rows = 1000;      ///< training rows that are counted; 0: all
    Index seed = 0;
  };
  static constexpr std::string_view kName = "nac";
  Nac() = default;
  explicit Nac(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = true, .head = true},
            .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Nac>(*this); }
  std::vector<Preset> presets() const override {
    return {{"cifar100", {{"alpha", 50.0}}, "the paper's for CIFAR-100"},
            {"imagenet-resnet50",
             {{"saturation", Index{10}}, {"alpha", 3000.0}},
             "the paper's for ResNet-50 on ImageNet-1k"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("bins", options_.bins, Range::at_least(6), "of each neuron's states");
    v.option("saturation", options_.saturation, Range{.min = 1, .max = 1e6},
             "rows that make a bin wholly covered");
    v.option("alpha", options_.alpha, Range{.min = 0, .max = 1e9, .open_min = true},
             "steepness of the sigmoid");
    v.option("rows", options_.rows, Range::at_least(0), "training rows counted; 0: all");
    v.option("seed", options_.seed, Range::at_least(0), "of the choice of rows");
    v.state("rows_used", rows_used_);
    v.state("weight", weight_);
    v.state("covered", covered_);
  }

 private:
  class Counts;
  void fit_state(BatchSource& source, const Exec& exec) override;
  void prepare() override;
  /// W^T for products, and where bins meet.
  void set_up();
  /// alpha z g [n, D] of a tile, on the calling thread.
  void states(const Batch& tile, MatrixMap x) const;
  /// Of a state: the edges that are not above it.
  Index bin_of(float x) const;
  void score_tile(const Batch& tile, std::span<float> out) const override;
  Diagnostics found() const override {
    return {.values = {{"rows_used", rows_used_}}, .per_class = {}, .warnings = {}};
  }

  Options options_;
  Index rows_used_ = 0;
  Matrix weight_;   // W [C, D]
  Matrix covered_;  // min(count, saturation) [D, bins]
  // derived
  kernels::PackedMatrix packed_weight_;  // W^T
  std::vector<float> edges_;             // of alpha z g, ascending
};

}  // namespace ood
