#pragma once

#include <array>
#include <cmath>
#include <stdexcept>

#include "ood/accumulators/normalized.h"
#include "ood/accumulators/second_moment.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/margins.h"
#include "ood/linear_head.h"
#include "ood/nearest_mean.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Predictive normalised maximum likelihood of the last layer: its regret, had it seen the sample.
///
///   s(z) = -log sum_c p_c / (p_c + (1 - p_c) p_c^kappa)       higher = more in-distribution
///   kappa = g / (1 + g),   g = z'^T (X^T X)^+ z',   z' = z / |z|_2,   p = softmax(W z' + b)
///
/// where X are the n training rows at unit length.
///
/// needs  features [n, D] and the head W [C, D], b [C] in fit, features in score
/// fit    one pass: X^T X in float64; then its eigendecomposition
/// score  features [m, D] -> out [m]; unit: nats, in [-log C, 0]
/// cost   fit O(n D^2 + D^3), score O(m (D^2 + C D)); state D^2 + C D floats; in fit D^2 doubles
///        and 4096 D floats for each thread
/// errors std::domain_error: training rows that are all zero
/// source Bibas, Feder & Hassner, NeurIPS 2021, arXiv:2110.09246. Rows at unit length, in X, in g
///        and in the logits, as in the authors' code; there, as in pytorch-ood, the regret is over
///        log C, the same order. pytorch-ood also keeps p above 1e-12; here nothing is cut, as
///
///          regret = log1p sum_c p_c (1 - p_c) (1 - p_c^kappa) / (p_c + (1 - p_c) p_c^kappa)
///
///        (sum_c p_c = 1 taken out) adds positive terms only and keeps its relative accuracy where
///        p -> 1. The pseudo-inverse is over the numerical range of X^T X (ood/nearest_mean.h);
///        what of z' is outside it does not count, as in both codes. A row of zeros stays zero:
///        g = 0 and its score is 0, the largest.
class Pnml final : public Detector {
 public:
  static constexpr std::string_view kName = "pnml";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .head = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Pnml>(*this); }

  Index rank() const { return rank_; }

  void visit(FieldVisitor& v) override {
    v.state("rank", rank_);
    v.state("condition_number", condition_number_);
    v.state("transform", transform_);
    head_.visit(v);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const Normalized empty(SecondMoment(VectorD::Zero(source.info().dim)));
    const SecondMoment second = reduce(source, empty, exec).take();
    const MatrixD moment = second.moment();  // X^T X / n
    if (moment.trace() == 0)
      throw std::domain_error("features has 0 everywhere, expected rows that are not all zero");
    const Whitening whitening = whiten(moment, 0);
    rank_ = whitening.rank;
    condition_number_ = whitening.condition_number;
    transform_ =
        (whitening.transform / std::sqrt(static_cast<double>(second.rows()))).cast<float>();
    head_.fit(*source.head());
  }

  bool bound_by_products() const override { return true; }
  void prepare() override {
    packed_transform_ = kernels::PackedMatrix(transform_, precision());
    head_.prepare(precision());
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    constexpr std::array<double, 1> kTwo = {2.0};
    Scratch scratch;
    const MatrixMap unit = scratch.matrix(tile.rows(), tile.features->cols());
    const MatrixMap y = scratch.matrix(unit.rows(), packed_transform_.rows());
    const MatrixMap lengths = scratch.matrix(unit.rows(), 1);
    const MatrixMap logits = scratch.matrix(unit.rows(), head_.classes());
    kernels::normalize_rows(*tile.features, unit);
    kernels::matmul_nt(unit, packed_transform_, y);
    kernels::row_norms(y, kTwo, lengths);  // g = |y|^2
    head_.logits(unit, logits);
    kernels::row_regret(logits, {lengths.data(), out.size()}, out);
  }

  Diagnostics found() const override {
    return {.values = {{"rank", rank_}, {"condition_number", condition_number_}},
            .per_class = {},
            .warnings = {}};
  }

  Index rank_ = 0;
  double condition_number_ = 0;
  Matrix transform_;  // A [rank, D], A^T A = (X^T X)^+
  LinearHead head_;
  // derived
  kernels::PackedMatrix packed_transform_;
};

}  // namespace ood
