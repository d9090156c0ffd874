#pragma once

#include <array>

#include "ood/accumulators/class_means.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Cosine of the angle to the nearest class mean.
///
///   s(z) = max_c <z, mu_c> / (|z|_2 |mu_c|_2)                 higher = more in-distribution
///
/// A row of zeros has cosine 0 with every mean, and a mean that is 0 has cosine 0 with every row.
///
/// needs  features [n, D] and labels [n] in [0, C) in fit, features in score; a row of each class
/// fit    one pass: class means in float64, scaled to unit length
/// score  features [m, D] -> out [m]; in [-1, 1]
/// cost   fit O(n D), score O(m C D); state C D floats, in fit C D doubles for each thread
/// errors std::domain_error: a class without rows
/// source Techapanurak, Suganuma & Okatani, ACCV 2020, arXiv:1905.10628, where a network is trained
///        with such cosines as logits and mu_c are the weights of its last layer. Here, as in other
///        post-hoc libraries, any network's features and the means of its training rows. mu_c is
///        the mean of the rows as they are, not of their directions. No option. Finite rows whose
///        norm overflows float32 (3.4e38) score NaN; below a norm of about 1e-30 float32 products
///        underflow and digits are lost.
class MaxCosine final : public Detector {
 public:
  static constexpr std::string_view kName = "max_cosine";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<MaxCosine>(*this); }

  void visit(FieldVisitor& v) override { v.state("directions", directions_); }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    MatrixD means = reduce(source, ClassMeans(info.classes, info.dim), exec).means();
    for (auto row : means.rowwise()) row.normalize();  // a row of zeros stays zero
    directions_ = means.cast<float>();
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { packed_ = kernels::PackedMatrix(directions_, precision()); }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    constexpr std::array<double, 1> kTwo = {2.0};
    Scratch scratch;
    const MatrixMap dots = scratch.matrix(tile.rows(), packed_.rows()),
                    norms = scratch.matrix(tile.rows(), 1);
    kernels::matmul_nt(*tile.features, packed_, dots);
    kernels::row_norms(*tile.features, kTwo, norms);
    kernels::row_max(dots, out);
    kernels::divide(out, 1, {norms.data(), out.size()}, out);
    kernels::clamp(out, -1, 1);
  }

  Matrix directions_;  // mu_c / |mu_c|, [C, D]
  // derived
  kernels::PackedMatrix packed_;
};

}  // namespace ood
