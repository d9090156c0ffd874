#pragma once

#include "ood/accumulators/predicted_class_means.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Class-aware relative feature error: how far the features are from the mean of their predicted
/// class, relative to their size.
///
///   s(z, f) = -|z - mu_y|_1 / |z|_1,   y = argmax_c f_c       higher = more in-distribution
///   mu_c    = mean of the training rows i with argmax f_i = c
///
/// A row of zeros scores -infinity, and 0 if mu_y is 0 too.
///
/// needs  features [n, D], logits [n, C] in fit and in score; a row predicted as each class
/// fit    one pass: means in float64, rounded to float32
/// score  features [m, D], logits [m, C] -> out [m]; <= 0
/// cost   fit O(n (C + D)), score O(m (C + D)); state C D floats, in fit C D doubles for each
///        thread
/// errors std::domain_error: a class that is predicted for no row of the fit
/// source Ling et al., CVPR 2025, arXiv:2503.00325 (CADRef). Labels do not matter, as in the
///        authors' code. No option.
class Caref final : public Detector {
 public:
  static constexpr std::string_view kName = "caref";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = true}, .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Caref>(*this); }

  void visit(FieldVisitor& v) override { v.state("means", means_); }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    means_ =
        reduce(source, PredictedClassMeans(info.classes, info.dim), exec).means().cast<float>();
  }

  void prepare() override {
    require_size("means, in rows", means_.rows(), fitted_classes());
    require_size("means, in columns", means_.cols(), fitted_dim());
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::span<Index> predicted = scratch.span<Index>(tile.rows());
    const std::span<float> lengths = scratch.span<float>(tile.rows());
    kernels::row_argmax(*tile.logits, predicted);
    kernels::row_sum_of_absolutes(*tile.features, lengths);
    kernels::row_absolute_distance_selected(*tile.features, means_, predicted, out);
    kernels::divide(out, -1, lengths, out);
  }

  Matrix means_;  // mu [C, D]
};

}  // namespace ood
