#pragma once

#include <vector>

#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/principal_space.h"
#include "ood/scratch.h"

namespace ood {

/// Kernel PCA with the cosine-Gaussian kernel (CoRP), by random Fourier features.
///
///   s(z)   = -|(I - U^T U)(phi - mu)|_2                       higher = more in-distribution
///   phi(z) = sqrt(2 / M) cos(W z' + v) [M],   z' = z / |z|_2
///   W [M, D]: each entry ~ N(0, 2 gamma),  v [M]: each ~ U(0, 2 pi)
///   mu, S  = mean and covariance of phi over the training rows
///   U      = the q eigenvectors of S with the largest eigenvalues l, q the smallest with
///            l_1 + ... + l_q >= variance (l_1 + ... + l_M)
///
/// <phi(x), phi(y)> is, in expectation, the Gaussian kernel exp(-gamma |x' - y'|^2).
///
/// needs  features [n, D] in fit and in score
/// fit    one pass: moments of phi in float64; then eigenvectors of S: about 2 s at M = 2048,
///        whatever n is, and eight times as long at 4096
/// score  features [m, D] -> out [m]; in [-2 sqrt(2), 0]
/// cost   fit O(n M (D + M) + M^3), score O(m M (D + q)); memory M (D + q) floats and as many again
///        laid out for products; in fit 2 M^2 doubles and 4096 (M + D) floats for each thread
/// errors std::domain_error: a variance that takes all directions in which phi varies (q not below
///        the rank of S, which is below n), so that no residual is left
/// source Fang et al., NeurIPS 2024, arXiv:2402.02949, CoRP, with its variance, gamma and M for
///        CIFAR-10; preset `imagenet` is the other one. W and v come from the seed alone
///        (ood/random.h) and are not kept in files; in the published code each run has others. A
///        row of zeros stays zero. Its fusion with other scores is not here.
class Corp final : public Detector {
 public:
  struct Options {
    double variance = 0.8;   ///< share of it that the principal directions hold, in (0, 1)
    double gamma = 2.0;      ///< of the Gaussian kernel, in (0, 1e6]
    Index dimension = 2048;  ///< M
    Index seed = 0;
  };
  static constexpr std::string_view kName = "corp";
  Corp() = default;
  explicit Corp(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {.features = true}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Corp>(*this); }
  std::vector<Preset> presets() const override {
    return {{"imagenet",
             {{"variance", 0.5}, {"gamma", 3.0}, {"dimension", Index{4096}}},
             "the paper's for ImageNet-1k"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("variance", options_.variance, Range{.min = 0, .max = 1, .open_min = true},
             "share of it that the principal directions hold; 0.8 in the paper for CIFAR-10");
    v.option("gamma", options_.gamma, Range{.min = 0, .max = 1e6, .open_min = true},
             "of the Gaussian kernel exp(-gamma |x - y|^2)");
    v.option("dimension", options_.dimension, Range::at_least(2), "random Fourier features, M");
    v.option("seed", options_.seed, Range::at_least(0), "of the random Fourier features");
    space_.visit(v);
  }

 private:
  class MappedMoments;
  void fit_state(BatchSource& source, const Exec& exec) override;
  bool bound_by_products() const override { return true; }
  void prepare() override;
  /// W, packed, and v, for features of width `dim`.
  void draw_features(Index dim, kernels::Precision packed);
  /// phi [n, M] of a tile, on the calling thread.
  void map(const MatrixView& z, MatrixMap phi) const;
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap phi = scratch.matrix(tile.rows(), options_.dimension);
    map(*tile.features, phi);
    space_.residual_norms(phi, out);
    kernels::scale(out, -1.0f);
  }
  Diagnostics found() const override {
    return {.values = space_.found(), .per_class = {}, .warnings = {}};
  }

  Options options_;
  PrincipalSpace space_;
  // derived
  kernels::PackedMatrix directions_;  // W
  std::vector<float> phases_;         // v
};

}  // namespace ood
