#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "ood/accumulators/predicted_class_means.h"
#include "ood/detector.h"
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
    VectorDMap z = scratch.vector_d(tile.features->cols());
    for (Index i = 0; i < std::ssize(predicted); ++i) {
      const Index y = predicted[static_cast<std::size_t>(i)];
      float& s = out[static_cast<std::size_t>(i)];
      z = tile.features->row(i).transpose().cast<double>();
      const double length = z.lpNorm<1>();
      if (y < 0 || !std::isfinite(length)) {
        s = std::numeric_limits<float>::quiet_NaN();
        continue;
      }
      const double error = (z - means_.row(y).transpose().cast<double>()).lpNorm<1>();
      s = error == 0 ? 0.0f : static_cast<float>(-error / length);
    }
  }

  Matrix means_;  // mu [C, D]
};

}  // namespace ood
