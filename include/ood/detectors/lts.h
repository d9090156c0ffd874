#pragma once

#include <span>

#include "ood/activation_shaping.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/scratch.h"

namespace ood {

/// Logit scaling (LTS): the energy of logits that are scaled by how much of the sum of the features
/// the largest hold.
///
///   s(z, f) = log sum_c exp(r^2 f_c),   r = s1 / s2           higher = more in-distribution
///   s1 = sum_j z_j,   s2 = the sum of the k largest
///   k  = D - round(D percentile / 100), ties to even, at least 1
///
/// r is 1 for a row of zeros.
///
/// needs  features [m, D] >= 0 and logits [m, C] in score
/// fit    nothing
/// score  features, logits -> out [m]; unit: logits
/// cost   score O(m (D + C)), the k largest in O(m D) on average
/// errors std::domain_error, in score: a negative entry. The way out: `relu` = true
/// source Djurisic, Liu & Nikolic, 2024, arXiv:2409.01175: the largest 5 %, and the factor r^2. The
///        authors' code takes max(z, 0), as `relu` does here; after a ReLU it is the same.
///        pytorch-ood divides the logits by r^2, which turns the effect round: not offered. Finite
///        rows whose scaled logits overflow float32 (3.4e38) score NaN.
class Lts final : public Detector {
 public:
  struct Options {
    double percentile = 95;  ///< of the entries of a row that s2 leaves out, in [0, 100]
    bool relu = false;       ///< negative entries count as 0
  };
  static constexpr std::string_view kName = "lts";
  Lts() = default;
  explicit Lts(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {}, .score = {.features = true, .logits = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Lts>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("percentile", options_.percentile, Range{.min = 0, .max = 100},
             "of the entries of a row that s2 leaves out");
    v.option("relu", options_.relu, "take negative entries for 0, which else are an error");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap z = scratch.matrix(tile.rows(), tile.features->cols());
    const std::span<double> ratios = scratch.span<double>(z.rows());
    const std::span<float> factors = scratch.span<float>(z.rows()),
                           zeros = scratch.span<float>(tile.logits->cols());
    non_negative_rows(tile, options_.relu, z);
    row_sum_ratios(z, kept_entries(z.cols(), options_.percentile), ratios);
    square(ratios, factors);
    kernels::fill(zeros, 0.0f);
    kernels::row_log_sum_exp_affine(*tile.logits, factors, zeros, out);
  }

  Options options_;
};

}  // namespace ood
