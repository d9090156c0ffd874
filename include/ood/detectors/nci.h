#pragma once

#include <array>
#include <vector>

#include "ood/accumulators/row_mean.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/kernels/margins.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// How far the features point to the weights of their class, seen from the training mean, and how
/// long they are: what neural collapse makes of training rows (NCI).
///
///   s(z, f) = <w_y, z - mu> / |z - mu|_2 + alpha |z|_1,   y = argmax_c f_c
///                                                             higher = more in-distribution
///   mu = 1/n sum_i z_i
///
/// The first term of a row at mu is 0.
///
/// needs  features [n, D] and the head W [C, D] in fit, features and logits [m, C] in score
/// fit    one pass: the mean in float64
/// score  features [m, D], logits [m, C] -> out [m]; unit: that of weights; in float32
/// cost   fit O(n D), score O(m (C + D)); state C D floats
/// source Liu & Qin, CVPR 2025, arXiv:2311.01479. There alpha is tuned for each network; 1e-4 is
///        the default of OpenOOD, which searches 1e-4 to 1e-1. Preset pytorch_ood: alpha = 0 as
///        there, the first term alone.
class Nci final : public Detector {
 public:
  struct Options {
    double alpha = 1e-4;  ///< 0 or more: the weight of |z|_1
  };
  static constexpr std::string_view kName = "nci";
  Nci() = default;
  explicit Nci(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .head = true}, .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Nci>(*this); }
  std::vector<Preset> presets() const override {
    return {{"pytorch_ood", {{"alpha", 0.0}}, "without the norm of the features"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("alpha", options_.alpha, Range::at_least(0).swept({1e-4, 1e-3, 1e-2, 1e-1}),
             "weight of the l1 norm of the features");
    v.state("mean", mean_);
    v.state("weight", weight_);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    mean_ = reduce(source, RowMean(source.info().dim), exec).mean();
    weight_ = source.head()->weight;
  }

  void prepare() override {
    require_size("mean", mean_.size(), fitted_dim());
    require_size("weight, in rows", weight_.rows(), fitted_classes());
    require_size("weight, in columns", weight_.cols(), fitted_dim());
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    constexpr std::array<double, 1> kTwo = {2.0};
    Scratch scratch;
    const std::span<Index> predicted = scratch.span<Index>(tile.rows());
    const MatrixMap centred = scratch.matrix(tile.rows(), tile.features->cols());
    const MatrixMap lengths = scratch.matrix(tile.rows(), 1);
    const std::span<float> sums = scratch.span<float>(tile.rows());
    kernels::row_argmax(*tile.logits, predicted);
    kernels::subtract_mean(*tile.features, mean_, centred);
    kernels::row_norms(centred, kTwo, lengths);
    kernels::row_dot_selected(centred, weight_, predicted, out);
    kernels::divide(out, 1, {lengths.data(), out.size()}, out);
    kernels::row_sum_of_absolutes(*tile.features, sums);
    kernels::add_scaled(out, options_.alpha, sums, out);
  }

  Options options_;
  VectorD mean_;   // mu [D]
  Matrix weight_;  // W [C, D]
};

}  // namespace ood
