#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ood/accumulators/predicted_class_means.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/predicted_class.h"
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
    std::pmr::vector<Index> predicted(out.size(), &scratch);
    predicted_classes(*tile.logits, predicted);
    std::pmr::vector<float> lengths(out.size(), &scratch);
    kernels::row_sum_of_absolutes(*tile.features, lengths);
    std::pmr::vector<Index> of_class(predicted, &scratch);
    for (Index& y : of_class) y = std::max(y, Index{0});
    kernels::row_absolute_distance_selected(*tile.features, means_, of_class, out);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double length = static_cast<double>(lengths[i]), error = static_cast<double>(out[i]);
      if (predicted[i] < 0 || !std::isfinite(length))
        out[i] = std::numeric_limits<float>::quiet_NaN();
      else
        out[i] = error == 0 ? 0.0f : static_cast<float>(-error / length);
    }
  }

  Matrix means_;  // mu [C, D]
};

}  // namespace ood
