#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/nearest_mean.h"
#include "ood/scratch.h"

namespace ood {

/// Log density of one Gaussian for each class, with the classes' covariances or a tied one.
///
///   s(z) = log sum_c pi_c N(z; mu_c, S_c)                     higher = more in-distribution
///   log N(z; mu_c, S_c) = -1/2 [(z - mu_c)^T S_c^-1 (z - mu_c) + log det S_c + D log 2 pi]
///   S_c  = 1/(n_c - 1) sum_{y_i = c} (z_i - mu_c)(z_i - mu_c)^T             (covariance = class)
///   S_c  = S = 1/n sum_i (z_i - mu_{y_i})(z_i - mu_{y_i})^T                 (covariance = tied)
///   pi_c = n_c / n (class_prior = empirical) or 1 / C (uniform)
///
/// needs  features [n, D] and labels [n] in [0, C) in fit, features in score; a row of each class,
///        more than D of each for covariance = class without ridge
/// fit    class: one pass, or as many as keep the covariances that are summed below 1 GiB; tied:
///        one pass; moments in float64, then an eigendecomposition of each covariance
/// score  features [m, D] -> out [m]; unit: nats
/// cost   class: fit O(n D^2 + C D^3), score O(m C D^2); memory 2 C D^2 floats (the factors, and
///        the factors laid out for products), in fit up to 1 GiB more, or D^2 doubles for each
///        thread where those are more.
///        tied: fit O(n D^2 + D^3), score O(m D (D + C)); memory 2 D^2 + C D floats, in fit D^2 +
///        2 C D doubles more for each thread
/// errors std::domain_error: a class without rows; covariance = class: a singular S_c, which is
///        named with its rows and D; tied: features that do not vary within the classes; features
///        that vary too little for float32
/// source class: Mukhoti et al., CVPR 2023, arXiv:2102.11582 (DDU), algorithm 1, feature density;
///        the network's spectral normalisation is training. The published code leaves out pi_c
///        (preset `published_code`) and adds the first jitter of 1e-308, 1e-307, ... I with which a
///        Cholesky decomposition succeeds; here a singular S_c is an error, and a ridge is asked
///        for. pytorch-ood's GMM returns the least squared distance over D instead of a density.
///        tied: Morteza & Li, AAAI 2022, arXiv:2112.00787 (GEM, preset `gem`): log sum_c exp(-d_c^2
///        / 2). Here pi_c and the constants of the density are kept, which `gem` makes the same for
///        all classes: another score, the same order. Where S is singular, inverse and
///        determinant are those over its numerical range (ood/nearest_mean.h). OpenOOD's GMM is
///        tied too, without determinant, fitted by EM.
///        Finite rows whose products overflow float32 score NaN.
class GaussianDensity final : public Detector {
 public:
  enum class Covariance { per_class, tied };
  static constexpr std::array<std::string_view, 2> kCovariances = {"class", "tied"};
  enum class ClassPrior { empirical, uniform };
  static constexpr std::array<std::string_view, 2> kClassPriors = {"empirical", "uniform"};

  struct Options {
    Covariance covariance = Covariance::per_class;
    ClassPrior class_prior = ClassPrior::empirical;
    double ridge = 0.0;  ///< S_c + ridge (tr S_c / D) I
  };
  static constexpr std::string_view kName = "gaussian_density";
  GaussianDensity() = default;
  explicit GaussianDensity(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<GaussianDensity>(*this);
  }
  std::vector<Preset> presets() const override {
    using namespace std::string_literals;
    return {{"gem", {{"covariance", "tied"s}, {"class_prior", "uniform"s}}, "Morteza & Li, 2022"},
            {"published_code", {{"class_prior", "uniform"s}}, "as the scripts of DDU compute it"}};
  }

  Index rank() const { return rank_; }
  /// log det S_c, [C], or log det S alone.
  const VectorD& log_determinants() const { return log_determinants_; }
  /// Of S_c, [C], or of S alone.
  const VectorD& condition_numbers() const { return condition_numbers_; }

  void visit(FieldVisitor& v) override {
    v.option("covariance", options_.covariance, kCovariances, "one for each class, or one for all");
    v.option("class_prior", options_.class_prior, kClassPriors,
             "pi: as in the training rows, or equal");
    v.option("ridge", options_.ridge, Range{.min = 0, .max = 1e6},
             "added to each covariance, relative to its mean eigenvalue");
    v.state("rank", rank_);
    v.state("class_rows", class_rows_);
    v.state("log_determinants", log_determinants_);
    v.state("condition_numbers", condition_numbers_);
    v.state("centers", centers_);
    v.state("transforms", transforms_);
    v.state("means", means_);
  }

 private:
  bool tied() const { return options_.covariance == Covariance::tied; }
  Index classes() const { return std::ssize(class_rows_); }

  void fit_state(BatchSource& source, const Exec& exec) override;
  void fit_tied(BatchSource& source, const Exec& exec);
  void fit_per_class(BatchSource& source, const Exec& exec);
  /// Covariance c of those kept: its factor, and the means m of its classes, from row c on.
  void set_covariance(Index c, const Whitening& whitening, const VectorD& center,
                      const MatrixD& means);
  bool bound_by_products() const override { return true; }
  void prepare() override;

  void score_tile(const Batch& tile, std::span<float> out) const override {
    tied() ? score_tied(*tile.features, out) : score_per_class(*tile.features, out);
  }

  /// y = W_c (z - center_c), with W_c^T W_c = S_c^-1: d_c^2 = |y - m_c|^2.
  void whitened(const MatrixView& z, std::size_t c, MatrixMap y) const {
    Scratch scratch;
    MatrixMap centered = scratch.matrix(z.rows(), z.cols());
    const auto center = MatrixView(centers_).middle_rows(static_cast<Index>(c), 1);
    kernels::subtract_row(z, {center.data(), static_cast<std::size_t>(z.cols())}, centered);
    kernels::matmul_nt(centered, packed_transforms_[c], y);
  }

  void score_per_class(const MatrixView& z, std::span<float> out) const {
    Scratch scratch;
    MatrixMap y = scratch.matrix(z.rows(), means_.cols());
    MatrixMap squared = scratch.matrix(z.rows(), classes());
    const std::span<float> of_class = scratch.span<float>(z.rows()),
                           minus_half = scratch.span<float>(z.rows());
    const std::span<Index> first = scratch.span<Index>(z.rows());
    kernels::fill(minus_half, -0.5f);
    kernels::fill(first, 0);
    for (std::size_t c = 0; c < class_rows_.size(); ++c) {
      const auto place = static_cast<Index>(c);
      whitened(z, c, y);
      kernels::row_squared_distance_selected(y, MatrixView(means_).middle_rows(place, 1), first,
                                             of_class);
      kernels::set_column(squared, place, of_class);
    }
    kernels::row_log_sum_exp_affine(squared, minus_half, offsets_, out);
  }

  /// The class n that counts most is found by products; its distance is taken by differences, so
  /// that nothing cancels: s = log pi_n - d_n^2 / 2 + constant + [log sum_c exp(a_c) - a_n] with
  /// a_c = <y, m_c> - |m_c|^2 / 2 + log pi_c.
  void score_tied(const MatrixView& z, std::span<float> out) const {
    Scratch scratch;
    MatrixMap y = scratch.matrix(z.rows(), means_.cols());
    MatrixMap dots = scratch.matrix(z.rows(), classes());
    const std::span<Index> most = scratch.span<Index>(z.rows());
    const std::span<float> largest = scratch.span<float>(z.rows()),
                           all = scratch.span<float>(z.rows()),
                           squared = scratch.span<float>(z.rows()),
                           one = scratch.span<float>(z.rows());
    kernels::fill(one, 1.0f);
    whitened(z, 0, y);
    kernels::matmul_nt(y, packed_means_, dots);
    kernels::row_argmax_affine(dots, 1.0f, offsets_, most);
    kernels::row_max_affine(dots, 1.0f, offsets_, largest);
    kernels::row_log_sum_exp_affine(dots, one, offsets_, all);
    kernels::row_squared_distance_selected(y, means_, most, squared);
    kernels::look_up(constants_, most, out);
    kernels::add_scaled(out, -0.5, squared, out);
    kernels::add_scaled(all, -1, largest, all);
    kernels::add_scaled(out, 1, all, out);
  }

  /// Of each class, beside rank and, where tied, the one covariance.
  Diagnostics found() const override;

  Options options_;
  Index rank_ = 0;  // of every covariance; D unless tied
  std::vector<Index> class_rows_;
  VectorD log_determinants_, condition_numbers_;  // [C], or [1] where tied
  Matrix centers_;                                // [C, D], or [1, D]
  Matrix transforms_;                             // W_c one below the other, [C D, D], or [rank, D]
  Matrix means_;                                  // m_c = W_c (mu_c - center_c), [C, rank]
  // derived
  std::vector<kernels::PackedMatrix> packed_transforms_;
  kernels::PackedMatrix packed_means_;  // tied
  std::vector<float> constants_;        // log pi_c - (log det S_c + rank log 2 pi) / 2
  std::vector<float> offsets_;          // the same, or where tied: log pi_c - |m_c|^2 / 2
};

}  // namespace ood
