#pragma once

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "ood/accumulators/second_moment.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/reduce.h"
#include "ood/residual_space.h"
#include "ood/scratch.h"

namespace ood {

/// Virtual-logit matching (ViM): energy less the residual norm, scaled to the size of a logit.
///
///   s(z, f) = log sum_c exp(f_c) - alpha |R (z - u)|_2,   u = -W^+ b
///                                                             higher = more in-distribution
///   M     = 1/n sum_i (z_i - u)(z_i - u)^T
///   R     = the eigenvectors of M but for those of its d largest eigenvalues
///   alpha = mean_i max_c f_ic / mean_i |R (z_i - u)|_2
///
/// needs  features [n, D], logits [n, C] and the head W [C, D], b [C] in fit, features and logits
///        in score
/// fit    two passes: the second moment about u in float64; after its eigendecomposition the means
///        of alpha
/// score  features [m, D], logits [m, C] -> out [m]; unit: logits
/// cost   fit O(n D^2 + D^3 + C^2 D), score O(m D (D - d) + m C);
///        state D (D - d) floats; in fit D^2 doubles for each thread and one more
/// errors std::domain_error: d not below the rank of M, so that no residual is left
/// source Wang et al., CVPR 2022, arXiv:2203.10807, with the d of its code for `dim` = 0: 1000
///        where D >= 2048, 512 where D >= 768, else D / 2. In the paper the score is the
///        probability p of the virtual class; here, as in its code, the energy less the virtual
///        logit, which is log((1 - p) / p) and does not saturate (the same order). Preset
///        openood: d = 256, which OpenOOD then searches; pytorch-ood takes d as given, clips logits to +-100 and uses a
///        general, not a symmetric, eigendecomposition. See ood/residual_space.h.
class Vim final : public Detector {
 public:
  struct Options {
    Index dim = 0;  ///< d, the principal dimension; 0: the rule of the paper's code
  };
  static constexpr std::string_view kName = "vim";
  Vim() = default;
  explicit Vim(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = true, .head = true},
            .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Vim>(*this); }

  std::vector<Preset> presets() const override {
    return {{"openood", {{"dim", Index{256}}}, "as OpenOOD"}};
  }

  double alpha() const { return alpha_; }

  void visit(FieldVisitor& v) override {
    v.option("dim", options_.dim, Range::at_least(0).swept({256, 1000}),
             "principal dimension; 0: 1000 if D >= 2048, 512 if D >= 768, else D / 2");
    v.state("alpha", alpha_);
    space_.visit(v);
  }

 private:
  /// Sums over rows of the largest logit and of the residual norm.
  class Sums {
   public:
    Sums() = default;
    explicit Sums(const ResidualSpace* space) : space_(space) {}

    Inputs inputs() const { return {.features = true, .logits = true}; }

    void add(const Batch& batch) {
      for (Index begin = 0; begin < batch.rows(); begin += kernels::kTileRows) {
        const Batch tile = batch.slice(begin, std::min(kernels::kTileRows, batch.rows() - begin));
        std::vector<float> values(static_cast<std::size_t>(tile.rows()));
        kernels::row_max(*tile.logits, values);
        for (const float v : values) max_logit += static_cast<double>(v);
        space_->norms(*tile.features, values);
        for (const float v : values) residual += static_cast<double>(v);
      }
    }
    void merge(const Sums& other) {
      max_logit += other.max_logit;
      residual += other.residual;
    }
    void visit(FieldVisitor& v) {
      v.state("max_logit", max_logit);
      v.state("residual", residual);
    }

    double max_logit = 0, residual = 0;

   private:
    const ResidualSpace* space_ = nullptr;
  };

  void fit_state(BatchSource& source, const Exec& exec) override {
    const VectorD origin = ResidualSpace::origin_of(*source.head());
    const auto moment = reduce(source, SecondMoment(origin), exec).moment();
    space_.fit(moment, origin, options_.dim);
    space_.prepare(source.info().dim);
    const Sums sums = reduce(source, Sums(&space_), exec);
    alpha_ = sums.max_logit / sums.residual;  // the same n in both means
  }
  bool bound_by_products() const override { return true; }
  void prepare() override { space_.prepare(fitted_dim(), precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::span<float> residual = scratch.span<float>(tile.rows());
    space_.norms(*tile.features, residual);
    kernels::row_log_sum_exp(*tile.logits, 1.0f, out);
    kernels::add_scaled(out, -alpha_, residual, out);
  }
  Diagnostics found() const override {
    Diagnostics found{.values = space_.found(), .per_class = {}, .warnings = {}};
    found.values.emplace_back("alpha", alpha_);
    return found;
  }

  Options options_;
  double alpha_ = 0;
  ResidualSpace space_;
};

}  // namespace ood
