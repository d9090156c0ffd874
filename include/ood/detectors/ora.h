#pragma once

#include "ood/accumulators/class_means.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/margins.h"
#include "ood/reduce.h"
#include "ood/scratch.h"
#include "ood/weight_distances.h"

namespace ood {

/// Relative angles (ORA): the widest angle, seen from the middle of the training data, between the
/// features and their projections on the decision boundaries.
///
///   s(z, f) = max_{c != y} angle(z - m, z_c - m) / pi,   y = argmax_c f_c
///                                                             higher = more in-distribution
///   z_c = z - t w_yc,   w_yc = w_y - w_c,   t = (f_y - f_c) / |w_yc|^2
///   m   = 1/C sum_c mu_c, the mean of the class means
///
/// From products that the logits give, with r = z - m, q = |w_yc|^2, a = f_y - f_c and h =
/// <r, w_yc> = a - (a at m), the angle is that of the point
///   (<r, z_c - m>, |r x (z_c - m)|) = (|r|^2 - t h, t sqrt(|r|^2 q - h^2)):
/// O(1) for each class, and no digits are lost where the angle is small, as an arc cosine would.
/// Where z or z_c is m there is no angle; it counts as 0.
///
/// needs  features [n, D], labels [n] in [0, C) and the head W [C, D], b [C] in fit, features and
///        logits [m, C] in score; C >= 2, a row of each class
/// fit    one pass: class means in float64; then the distances of the weights
/// score  features [m, D], logits [m, C] -> out [m]; in [0, 1]
/// cost   fit O(n D + C^2 D), score O(m (C + D)); state C^2 floats (C = 1000: 4 MB), in fit C D
///        doubles for each thread
/// errors std::domain_error: a class without rows; two classes of the same weights, which have no
///        boundary; C = 1
/// source Demirel, Fumero & Locatello, NeurIPS 2025, arXiv:2410.04525, and the authors' code, which
///        takes O(C D) for each row; where that divides by 0 it scores NaN as 0 too. f comes with
///        the batch: logits that were stored as float32 make h, and with it an angle between nearly
///        parallel vectors, a little uncertain (D = 1 is the worst case).
class Ora final : public Detector {
 public:
  static constexpr std::string_view kName = "ora";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true, .head = true},
            .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Ora>(*this); }

  void visit(FieldVisitor& v) override {
    v.state("center", center_);
    v.state("center_logits", center_logits_);
    v.state("distances", distances_);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const Head& head = *source.head();
    distances_ = weight_distances(head.weight);
    const MatrixD means = reduce(source, ClassMeans(info.classes, info.dim), exec).means();
    center_ = means.colwise().mean().transpose();
    center_logits_ = head.weight.cast<double>() * center_ + head.bias.cast<double>();
  }

  void prepare() override {
    require_size("center", center_.size(), fitted_dim());
    require_size("center_logits", center_logits_.size(), fitted_classes());
    require_size("distances, in rows", distances_.rows(), fitted_classes());
    require_size("distances, in columns", distances_.cols(), fitted_classes());
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::span<Index> predicted = scratch.span<Index>(tile.rows());
    kernels::row_argmax(*tile.logits, predicted);
    kernels::row_widest_angle(*tile.features, center_, *tile.logits, center_logits_, predicted,
                              distances_, out);
  }

  VectorD center_;         // m [D]
  VectorD center_logits_;  // W m + b [C]
  Matrix distances_;       // |w_a - w_b|, [C, C]
};

}  // namespace ood
