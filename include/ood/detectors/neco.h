#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/row_moments.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/kernels/margins.h"
#include "ood/reduce.h"
#include "ood/scratch.h"
#include "ood/spectrum.h"

namespace ood {

/// Neural-collapse score (NECO): the share of a feature vector in the principal subspace, times the
/// largest logit.
///
///   s(z, f) = |P x|_2 / |x|_2 max_c f_c,   x_j = (z_j - mu_j) / sigma_j
///                                                             higher = more in-distribution
///   mu, sigma = mean and standard deviation (over n) of each training column
///   P         = the eigenvectors of the covariance of x with the d largest eigenvalues l;
///               dim = 0: d is the smallest with l_1 + ... + l_d >= 0.9 (l_1 + ... + l_D)
///
/// max_logit_factor = false leaves max_c f_c out. A column that does not vary has sigma = 1, and a
/// row at mu, x = 0, scores 0.
///
/// needs  features [n, D] in fit; features, and logits for the factor, in score
/// fit    one pass: moments in float64; then an eigendecomposition
/// score  features [m, D], logits [m, C] -> out [m]; unit: logits, or in [0, 1] without the factor
/// cost   fit O(n D^2 + D^3), score O(m D d); state d D floats; in fit 2 D^2 doubles for each
///        thread
/// errors std::domain_error: dim above the rank of the covariance, whose other directions are
///        arbitrary; features of which no column varies
/// source Ben Ammar et al., ICLR 2024, arXiv:2310.06823, with the factor, as for its transformers
///        (it leaves it out for ResNets: preset `resnet`). The paper chooses d for each network,
///        from 0.9 of the variance on, which is the default here as in NINCO. Training rows have
///        mean 0 in x, so that PCA's own centring changes nothing. Preset `pytorch_ood`: its d =
///        100, which it lowers to D where D is less; here that is an error. Negative largest logits
///        turn the order around, there as here.
class Neco final : public Detector {
 public:
  struct Options {
    Index dim = 0;  ///< d; 0: as many directions as hold 0.9 of the variance
    bool max_logit_factor = true;
  };
  static constexpr std::string_view kName = "neco";
  Neco() = default;
  explicit Neco(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true},
            .score = {.features = true, .logits = options_.max_logit_factor}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Neco>(*this); }
  std::vector<Preset> presets() const override {
    return {{"resnet", {{"max_logit_factor", false}}, "the paper's for ResNets: no logits"},
            {"pytorch_ood", {{"dim", Index{100}}}, "pytorch-ood's number of directions"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("dim", options_.dim, Range::at_least(0).swept({16, 32, 64, 100, 128, 256, 512, 768}),
             "principal directions; 0: as many as hold 0.9 of the variance");
    v.option("max_logit_factor", options_.max_logit_factor, "times the largest logit");
    v.state("dim", dim_);
    v.state("rank", rank_);
    v.state("condition_number", condition_number_);
    v.state("mean", mean_);
    v.state("scale", scale_);
    v.state("basis", basis_);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const RowMoments moments = reduce(source, RowMoments(source.info().dim), exec);
    const VectorD mean = moments.mean();
    MatrixD covariance = moments.covariance();
    VectorD scale(mean.size());
    for (Index j = 0; j < mean.size(); ++j) {
      // what float64 leaves of a column of equal float32 numbers
      const double sigma = std::sqrt(covariance(j, j));
      scale[j] = sigma > 1e-13 * std::abs(mean[j]) ? 1 / sigma : 1;
    }
    covariance = scale.asDiagonal() * covariance * scale.asDiagonal();
    const Spectrum spectrum = leading_spectrum(covariance, [&](const Spectrum& all) {
      rank_ = all.rank;
      condition_number_ = all.condition_number;
      if (rank_ == 0)
        throw std::domain_error("features do not vary in any column, expected one that does");
      dim_ = options_.dim == 0 ? all.count_for_share(0.9) : options_.dim;
      if (dim_ > rank_)
        throw std::domain_error("dim has " + std::to_string(dim_) + ", expected at most the rank " +
                                std::to_string(rank_) +
                                " of the features (D = " + std::to_string(mean.size()) + ")");
      return dim_;
    });
    mean_ = mean.cast<float>();
    scale_ = scale.cast<float>();
    basis_ = spectrum.directions.cast<float>();
    if (!scale_.allFinite())
      throw std::domain_error(
          "features vary too little for float32, expected them to be scaled up");
  }
  bool bound_by_products() const override { return true; }
  void prepare() override {
    require_size("mean", mean_.size(), fitted_dim());
    if (basis_.rows() < 1 || basis_.cols() != mean_.size() || scale_.size() != mean_.size())
      throw std::invalid_argument("basis has " + std::to_string(basis_.cols()) +
                                  " columns, expected " + std::to_string(mean_.size()) +
                                  " as mean and scale have entries");
    packed_basis_ = kernels::PackedMatrix(basis_, precision());
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    constexpr std::array<double, 1> kTwo = {2.0};
    Scratch scratch;
    const MatrixMap x = scratch.matrix(tile.rows(), tile.features->cols());
    const MatrixMap y = scratch.matrix(x.rows(), packed_basis_.rows());
    const MatrixMap all = scratch.matrix(x.rows(), 1), within = scratch.matrix(x.rows(), 1);
    const std::span<float> largest = scratch.span<float>(x.rows());
    kernels::standardize(*tile.features, mean_, scale_, x);
    kernels::matmul_nt(x, packed_basis_, y);
    kernels::row_norms(y, kTwo, within);
    kernels::row_norms(x, kTwo, all);
    kernels::divide({within.data(), out.size()}, 1, {all.data(), out.size()}, out);
    if (!options_.max_logit_factor) return;
    kernels::row_max(*tile.logits, largest);
    kernels::multiply(out, largest, 1, out);
  }
  Diagnostics found() const override {
    return {.values = {{"dim", dim_}, {"rank", rank_}, {"condition_number", condition_number_}},
            .per_class = {},
            .warnings = {}};
  }

  Options options_;
  Index dim_ = 0;                // d
  Index rank_ = 0;               // of the covariance of x
  double condition_number_ = 0;  // on its range
  Vector mean_, scale_;          // mu, 1 / sigma [D]
  Matrix basis_;                 // P [d, D]
  // derived
  kernels::PackedMatrix packed_basis_;
};

}  // namespace ood
