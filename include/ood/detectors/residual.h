#pragma once

#include "ood/accumulators/second_moment.h"
#include "ood/detector.h"
#include "ood/kernels/elements.h"
#include "ood/reduce.h"
#include "ood/residual_space.h"

namespace ood {

/// Norm of what the principal directions leave over of a feature vector.
///
///   s(z) = -|R (z - u)|_2,   u = -W^+ b                       higher = more in-distribution
///   M    = 1/n sum_i (z_i - u)(z_i - u)^T
///   R    = the eigenvectors of M but for those of its d largest eigenvalues
///
/// needs  features [n, D] and the head W [C, D], b [C] in fit, features in score
/// fit    one pass: the second moment about u in float64; then its eigendecomposition
/// score  features [m, D] -> out [m]; unit: that of the features, negated
/// cost   fit O(n D^2 + D^3 + C^2 D), score O(m D (D - d));
///        state D (D - d) floats; in fit D^2 doubles for each thread and one more
/// errors std::domain_error: d not below the rank of M, so that no residual is left
/// source Wang et al., CVPR 2022, arXiv:2203.10807: the Residual score of its ablation, with the d
///        of its code for `dim` = 0: 1000 where D >= 2048, 512 where D >= 768, else D / 2. No
///        deviation; fitted on train as there. Preset openood: the validation rows, and d = 512
///        whatever D is, which there leaves nothing of the 512 features of a ResNet-18 and scores all
///        rows 0; here that is an error. See ood/residual_space.h.
class Residual final : public Detector {
 public:
  struct Options {
    Index dim = 0;               ///< d, the principal dimension; 0: the rule of the paper's code
    Split split = Split::train;  ///< whose second moment
  };
  static constexpr std::string_view kName = "residual";
  Residual() = default;
  explicit Residual(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .head = true},
            .score = {.features = true},
            .split = options_.split};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Residual>(*this); }

  std::vector<Preset> presets() const override {
    return {{"openood",
             {{"dim", Index{512}}, {"split", "id_val"}},
             "as OpenOOD: 512 dimensions of the validation set"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("dim", options_.dim, Range::at_least(0),
             "principal dimension; 0: 1000 if D >= 2048, 512 if D >= 768, else D / 2");
    v.option("split", options_.split, kFitSplits, "whose second moment");
    space_.visit(v);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const VectorD origin = ResidualSpace::origin_of(*source.head());
    const auto moment = reduce(source, SecondMoment(origin), exec).moment();
    space_.fit(moment, origin, options_.dim);
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { space_.prepare(fitted_dim(), precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    space_.norms(*tile.features, out);
    kernels::scale(out, -1.0f);
  }
  Diagnostics found() const override {
    return {.values = space_.found(), .per_class = {}, .warnings = {}};
  }

  Options options_;
  ResidualSpace space_;
};

}  // namespace ood
