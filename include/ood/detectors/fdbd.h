#pragma once

#include <array>

#include "ood/accumulators/row_mean.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/margins.h"
#include "ood/reduce.h"
#include "ood/scratch.h"
#include "ood/weight_distances.h"

namespace ood {

/// Mean distance to the decision boundaries, for one unit of distance from the training mean
/// (fDBD).
///
///   s(z, f) = 1/(C - 1) sum_{c != y} (f_y - f_c) / |w_y - w_c|_2 / |z - mu|_2,   y = argmax_c f_c
///                                                             higher = more in-distribution
///   mu = 1/n sum_i z_i (normalizer = distance) or mu = 0 (normalizer = norm)
///
/// A row at mu scores infinity, and 0 if it lies on all boundaries too.
///
/// needs  features [n, D] and the head W [C, D] in fit, features and logits [m, C] in score; C >= 2
/// fit    one pass: the mean in float64; then the distances of the weights
/// score  features [m, D], logits [m, C] -> out [m]; >= 0
/// cost   fit O(n D + C^2 D), score O(m (C + D)); state C^2 floats (C = 1000: 4 MB)
/// errors std::domain_error: two classes of the same weights, which have no boundary; C = 1
/// source Liu & Qin, ICML 2024, arXiv:2312.11536; `norm` is an option of OpenOOD. The authors' code
///        and OpenOOD sum over c, where the paper and pytorch-ood take the mean (the same order);
///        pytorch-ood adds 1e-8 to its denominators. f comes with the batch: stored logits are
///        W z + b but for what the network's own arithmetic rounded.
class Fdbd final : public Detector {
 public:
  enum class Normalizer { distance, norm };
  struct Options {
    Normalizer normalizer = Normalizer::distance;
  };
  static constexpr std::string_view kName = "fdbd";
  Fdbd() = default;
  explicit Fdbd(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .head = true}, .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Fdbd>(*this); }

  void visit(FieldVisitor& v) override {
    constexpr std::array<std::string_view, 2> kNormalizers = {"distance", "norm"};
    v.option("normalizer", options_.normalizer, kNormalizers,
             "what margins are divided by: the distance to the training mean, or the norm");
    v.state("origin", origin_);
    v.state("distances", distances_);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    distances_ = weight_distances(source.head()->weight);
    origin_ = VectorD::Zero(source.info().dim);
    if (options_.normalizer == Normalizer::distance)
      origin_ = reduce(source, RowMean(source.info().dim), exec).mean();
  }

  void prepare() override {
    require_size("origin", origin_.size(), fitted_dim());
    require_size("distances", distances_.size(), fitted_classes() * fitted_classes());
    require_size("distances, in columns", distances_.cols(), fitted_classes());
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    constexpr std::array<double, 1> kTwo = {2.0};
    Scratch scratch;
    const std::span<Index> predicted = scratch.span<Index>(tile.rows());
    const MatrixMap moved = scratch.matrix(tile.rows(), tile.features->cols());
    const MatrixMap lengths = scratch.matrix(tile.rows(), 1);
    kernels::row_argmax(*tile.logits, predicted);
    kernels::subtract_mean(*tile.features, origin_, moved);
    kernels::row_norms(moved, kTwo, lengths);
    kernels::row_mean_margin(*tile.logits, predicted, distances_, {lengths.data(), out.size()},
                             out);
  }

  Options options_;
  VectorD origin_;    // mu or 0, [D]
  Matrix distances_;  // |w_a - w_b|, [C, C]
};

}  // namespace ood
