#pragma once

#include <string>
#include <vector>

#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/linear_head.h"

namespace ood {

/// WeiPer+KLD: how unlike those of training rows the histograms of a row's features and of its
/// logits under perturbed weights are, and how confident those logits are.
///
///   s(z) = -K_1(z) - lambda1 K_2(a) + lambda2 1/R sum_r max_c softmax(a_r)_c
///                                                             higher = more in-distribution
///   a    = (a_1 .. a_R) [R C],  a_r = W_r z + b,  R = copies
///   W_r  = W + delta |w_c| e_rc / |e_rc| (row by row),  e_rc ~ N(0, I)
///   K(y) = sum_k (p_k - q_k)(log p_k - log q_k): the divergences of p from q and of q from p
///   p, q = (P + epsilon) / sum, (Q + epsilon) / sum over the bins
///   Q(y) = the share of the entries of y in each of `bins` equal bins of
///          [least - gap, most + gap], then the mean over `window` bins, (window - 1) / 2 of them,
///          rounded down, to the left; beyond the ends stands the bin at the end
///   P    = the mean over the training rows of that share, not smoothed
///
/// least and most are those of all entries of all training rows, gap = (most - least) / n; entries
/// outside count in no bin. K_1 has window1 and epsilon 0.01, K_2 window2 and 0.025.
///
/// needs  features [n, D] and the head W [C, D], b [C] in fit, features in score
/// fit    two passes: the ranges of entries; then the mean histograms
/// score  features [m, D] -> out [m]
/// cost   fit O(n R C D), score O(m R C D): R times that of the last layer; memory R C D floats for
///        the perturbed weights (0.8 GB for R = 100 on ImageNet with D = 2048); state C D floats
/// errors std::domain_error: features, or logits, that are all the same
/// source Granz et al., NeurIPS 2024, arXiv:2405.17164, WeiPer+KLD, with its settings for CIFAR-10;
///        presets `cifar100`, `imagenet-resnet50` and `imagenet-vit` are the others. As in the
///        published code the row's histogram is smoothed, that of the training rows is not, and
///        entries outside the bins count in the number that shares are of. There the ranges may be
///        estimates from some rows; here they are exact. The perturbations come from the seed alone
///        (ood/random.h) and are not kept in files; in the published code each run has others.
class Weiper final : public Detector {
 public:
  struct Options {
    Index copies = 100;    ///< R
    double delta = 1.8;    ///< length of a perturbation, relative to the weights, in (0, 1e6]
    double lambda1 = 2.5;  ///< in [0, 1e6]
    double lambda2 = 0.1;  ///< in [0, 1e6]
    Index window1 = 4, window2 = 15;
    Index bins = 100;
    Index seed = 0;
  };
  static constexpr std::string_view kName = "weiper";
  Weiper() = default;
  explicit Weiper(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .head = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Weiper>(*this); }
  bool runs_on_devices() const override { return false; }
  std::vector<Preset> presets() const override;
  void visit(FieldVisitor& v) override;

 private:
  /// The bins of one kind of entries, and P.
  struct Bins {
    double least = 0, most = 0;  // the ends of the first and the last bin
    VectorD mean;                // P [bins]
    /// Adds the entries of a row to counts [bins].
    void count(const float* row, Index entries, float* counts) const;
    /// K of counts among `entries` entries.
    double divergence(const float* counts, Index entries, Index window, double epsilon) const;
    void visit(FieldVisitor& v, const std::string& prefix);
  };
  class Ranges;
  class Histograms;

  void fit_state(BatchSource& source, const Exec& exec) override;
  bool bound_by_products() const override { return true; }
  void prepare() override;
  void perturb_weights(kernels::Precision packed);
  /// Calls visit(a) with [n, entries] pieces of the logits a of a tile, of whole copies.
  template <class Visit>
  void for_each_logits(const MatrixView& z, const Visit& visit) const;
  void score_tile(const Batch& tile, std::span<float> out) const override;

  Options options_;
  LinearHead head_;  // W, b
  Bins features_, logits_;
  // derived: some copies, one below the other, and b as often
  struct Block {
    kernels::PackedMatrix weight;
    Vector bias;
  };
  std::vector<Block> blocks_;
};

}  // namespace ood
