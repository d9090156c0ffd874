#pragma once

#include <array>
#include <cmath>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "ood/accumulators/class_means.h"
#include "ood/accumulators/log_sum_exp.h"
#include "ood/detector.h"
#include "ood/importance.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// ConjNorm: class-conditional density from the Bregman divergence of an l_q norm.
///
///   S(z)     = log sum_k pi_k exp(-d(z, mu_k) / t) / Phi_k    higher = more in-distribution
///   d(z, mu) = |z|_q^2 / 2 + |mu|_q^2 / 2 - <z, g(mu)>,       1/p + 1/q = 1
///   g(mu)_i  = sign(mu_i) |mu_i|^(q-1) / |mu|_q^(q-2)         0 where mu_i = 0    (paper)
///   g(mu_k)_i = sign(mu_ki) |mu_ki|^(q-1) / n_i^(q-2),        n_i = (sum_k |mu_ki|^q)^(1/q)
///                                                             (published_code)
///   Phi_k    = sum_i c_i exp(-d(z_i, mu_k) / t)               over all training rows (pooled)
///                                                             or those of class k (per_class)
///            = integral of exp(-d(z, mu_k) / t) over R^D      by Monte Carlo (importance)
///            = 1                                              (none)
///   c_i      = 1 with probability `share`, else 0             (resample = none)
///            ~ Poisson(share)                                 (resample = bootstrap)
///   pi_k     = 1/C (uniform), n_k / n (empirical), or as given
///
/// Rows z and class means mu_k (taken over raw rows) are first scaled to unit l_p norm:
/// x / (|x|_p + 1e-10).
///
/// needs  features [n, D] and labels [n] in [0, C) in fit, features in score; a row of each class
/// fit    one pass for the means; another for Phi if it is pooled or per_class
/// score  features [m, D] -> out [m]; unit: nats
/// cost   fit and score O(n D C) (per_class: fit O(n D); importance: fit O(n D + M D C) with M
///        samples, see ood/importance.h); memory C D floats
/// bound  products and norms are float32: |error| of S is about 1e-6 |z|_q (|z|_q + |mu|_q) / t, and
///        the same of log Phi; where rows of a class differ by less, their order is lost. Another
///        `precision` adds e |z|_2 |g(mu)|_2 / t to that of S, e as in ood/kernels.h
/// errors std::domain_error: a class without rows, or without rows that were drawn for Phi;
///        std::invalid_argument: `priors` that are not C numbers which sum to 1
/// source Peng et al., ICLR 2024, arXiv:2402.17888: psi = |.|_p^2 / 2 and its conjugate phi =
///        |.|_q^2 / 2, uniform pi. `importance` is the paper's estimator of Phi, `pooled` and
///        `per_class` are what the authors' CIFAR and ImageNet scripts do. They draw an unseeded
///        bootstrap sample of exactly share * n rows; here a row's draws depend on seed and row
///        number alone (the Poisson bootstrap), so that rows can be streamed. `published_code` is
///        how they compute g: the norm runs over the classes instead of over the features.
///        They add 1e-15 inside the logarithm, so that far samples tie, and drop |mu|_q^2; here
///        all is in the log domain and nothing is dropped.
class ConjNorm final : public Detector {
 public:
  enum class Gradient { paper, published_code };
  static constexpr std::array<std::string_view, 2> kGradients = {"paper", "published_code"};
  enum class Partition { pooled, per_class, importance, none };
  static constexpr std::array<std::string_view, 4> kPartitions = {"pooled", "per_class",
                                                                  "importance", "none"};
  enum class Resample { none, bootstrap };
  static constexpr std::array<std::string_view, 2> kResamples = {"none", "bootstrap"};
  enum class ClassPrior { uniform, empirical, given };
  static constexpr std::array<std::string_view, 3> kClassPriors = {"uniform", "empirical", "given"};
  using Proposal = ood::Proposal;

  struct Options {
    double p = 2.5;             ///< norm of psi, above 1; the paper searches (1, 3]
    double temperature = 0.08;  ///< t > 0
    Gradient gradient = Gradient::paper;
    Partition partition = Partition::pooled;
    Resample resample = Resample::none;  ///< pooled, per_class: each row once, or drawn again
    double share = 1;                    ///< pooled, per_class: of the rows, in (0, 1]
    ClassPrior class_prior = ClassPrior::uniform;
    std::vector<double> priors{};             ///< pi_k where class_prior = given
    Proposal proposal = Proposal::automatic;  ///< importance: see ood/importance.h
    double degrees_of_freedom = 5;            ///< importance: of student_t
    Index samples = 1024;                     ///< importance: M
    bool antithetic = false;                  ///< importance: samples in mirrored pairs
    Index seed = 0;                           ///< of whatever is drawn

    friend bool operator==(const Options&, const Options&) = default;
  };
  static constexpr std::string_view kName = "conjnorm";
  ConjNorm() = default;
  explicit ConjNorm(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<ConjNorm>(*this); }

  /// The settings of the authors' scripts: p, temperature and partition. Theirs is also
  /// gradient = published_code and a bootstrap sample.
  std::vector<Preset> presets() const override;
  /// Settings that differ in p, temperature and gradient alone are fitted and scored together, with
  /// one logarithm for each element and one product. Where `share`, `samples` and `proposal` have
  /// their defaults and are not part of the settings, Phi is estimated from fewer rows (pooled:
  /// about 1,024; per_class: about 32 of each class) or from 128 samples of `matched`.
  ///
  /// The log-likelihood of a row x is S(x) with partition = importance, whatever the option says
  /// (which therefore cannot be part of the settings), plus D log(|x|_2 / |x|_p): the density at
  /// the unit l_p norm, as a density of the norm and of the direction x / |x|_2, which is the same
  /// measure for every p. A row of zeros has no direction and gets S alone.
  std::unique_ptr<Candidates> candidates(std::span<const OptionMap> settings,
                                         Quantity quantity) const override;

  /// log Phi_k, [C].
  const VectorD& log_partition() const { return log_partition_; }
  /// Of log Phi_k, [C]: from the spread of its terms, were they independent draws. NaN for one term.
  const VectorD& standard_error() const { return standard_error_; }
  /// (sum w)^2 / sum w^2 over the terms w of Phi_k, [C]; 0 for partition = none.
  const VectorD& effective_samples() const { return effective_samples_; }
  /// Training rows of each class.
  const std::vector<Index>& class_rows() const { return class_rows_; }
  /// The proposal that Phi was sampled from; what `auto` stands for after the fit.
  Proposal proposal_used() const { return proposal_used_; }

  void visit(FieldVisitor& v) override {
    v.option("p", options_.p,
             Range{.min = 1, .max = 1e6, .open_min = true}.swept({1.5, 1.8, 2, 2.2, 2.5, 3}),
             "norm of psi; the paper searches (1, 3]");
    v.option("temperature", options_.temperature,
             Range{.min = 1e-20, .max = 1e20}.swept({0.0005, 0.005, 0.05, 0.08}), "t");
    v.option("gradient", options_.gradient, kGradients,
             "of phi at the means: the formula, or as the authors' scripts normalise it");
    v.option("partition", options_.partition, kPartitions,
             "Phi from all training rows, from those of each class, by Monte Carlo, or 1");
    v.option("resample", options_.resample, kResamples,
             "pooled, per_class: each row once, or a bootstrap sample");
    v.option("share", options_.share, Range{.min = 0, .max = 1, .open_min = true},
             "pooled, per_class: of the rows that are drawn");
    v.option("class_prior", options_.class_prior, kClassPriors,
             "pi: equal, as in the training rows, or `priors`");
    v.option("priors", options_.priors, Range{.min = 0, .max = 1},
             "class_prior = given: one for each class, sum 1");
    v.option("proposal", options_.proposal, kProposals,
             "importance: where samples come from; auto takes the best");
    v.option("degrees_of_freedom", options_.degrees_of_freedom, Range{.min = 1, .max = 1e6},
             "importance: of student_t");
    v.option("samples", options_.samples, Range{.min = 2, .max = 1e9},
             "importance: for each class");
    v.option("antithetic", options_.antithetic, "importance: samples in mirrored pairs");
    v.option("seed", options_.seed, Range{.min = 0, .max = 9e15}, "of whatever is drawn");
    v.state("gradients", gradients_);
    v.state("half_squares", half_squares_);
    v.state("log_priors", log_priors_);
    v.state("log_partition", log_partition_);
    v.state("standard_error", standard_error_);
    v.state("effective_samples", effective_samples_);
    v.state("class_rows", class_rows_);
    auto proposal = static_cast<Index>(proposal_used_);
    v.state("proposal_used", proposal);
    proposal_used_ = static_cast<Proposal>(proposal);
  }

 private:
  static constexpr double kTiny = 1e-10;  // the authors' guard in x / (|x|_p + 1e-10)

  double q() const { return options_.p / (options_.p - 1); }
  Index classes() const { return gradients_.rows(); }

  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const MatrixD means = set_means(reduce(source, ClassMeans(info.classes, info.dim), exec));
    if (sums_rows()) {
      const std::array<const ConjNorm*, 1> models = {this};
      set_partition(reduce(source, PartitionSums(models), exec).estimate(0));
    } else {
      set_closed_partition(means, exec);
    }
  }

  /// True if Phi is a sum over training rows.
  bool sums_rows() const {
    return options_.partition == Partition::pooled || options_.partition == Partition::per_class;
  }

  /// Phi that needs no rows: importance, none.
  void set_closed_partition(const MatrixD& means, const Exec& exec) {
    if (options_.partition == Partition::none) {
      const VectorD zero = VectorD::Zero(classes());
      return set_partition({zero, zero, zero, options_.proposal});
    }
    set_partition(importance_partition(
        {means, gradients_, half_squares_, q(), options_.temperature}, importance_options(), exec));
  }

  ImportanceOptions importance_options() const {
    return {options_.proposal, options_.degrees_of_freedom, options_.samples, options_.antithetic,
            static_cast<std::uint64_t>(options_.seed)};
  }

  void set_partition(const PartitionEstimate& estimate) {
    log_partition_ = estimate.log_partition;
    standard_error_ = estimate.standard_error;
    effective_samples_ = estimate.effective_samples;
    proposal_used_ = estimate.proposal;
  }

  /// mu_k / |mu_k|_p, which it returns, then g(mu_k), |mu_k|_q^2 / 2 and log pi_k, in float64.
  MatrixD set_means(const ClassMeans& totals) {
    MatrixD means = totals.means();
    class_rows_ = totals.counts();
    gradients_.resize(means.rows(), means.cols());
    half_squares_.resize(means.rows());
    for (Index k = 0; k < means.rows(); ++k) {
      means.row(k) /= norm(means.row(k), options_.p) + kTiny;
      const double size = norm(means.row(k), q());
      half_squares_[k] = size * size / 2;
    }
    const bool over_classes = options_.gradient == Gradient::published_code;
    VectorD over;  // n_i
    if (over_classes) {
      over.resize(means.cols());
      for (Index i = 0; i < means.cols(); ++i) over[i] = norm(means.col(i), q());
    }
    for (Index k = 0; k < means.rows(); ++k)
      for (Index i = 0; i < means.cols(); ++i) {
        const double mu = means(k, i);
        // |mu_i|^(q-1) / n^(q-2) = n (|mu_i| / n)^(q-1): no power of a large ratio
        const double n = over_classes ? over[i] : std::sqrt(2 * half_squares_[k]);
        gradients_(k, i) = static_cast<float>(
            mu == 0 ? 0 : std::copysign(n * std::pow(std::abs(mu) / n, q() - 1), mu));
      }
    set_priors();
    return means;
  }

  void set_priors();

  /// |x|_order with the largest entry factored out.
  static double norm(const VectorD& x, double order) {
    const double largest = x.cwiseAbs().maxCoeff();
    return largest == 0
               ? 0
               : largest * std::pow((x.array().abs() / largest).pow(order).sum(), 1 / order);
  }

  /// What raw rows x enter the formula with, z = x / (|x|_p + 1e-10), for one model or for several
  /// that share the work on the same rows:
  /// -d(z_i, mu_k) / t = scale_i <x_i, g_k> + shift_i - |mu_k|_q^2 / 2t.
  class RowTerms {
   public:
    RowTerms() = default;
    explicit RowTerms(std::span<const ConjNorm* const> models,
                      kernels::Precision precision = kernels::Precision::float32);

    struct Buffers {
      MatrixMap norms, dots;          // of all models
      std::span<float> scale, shift;  // of the selected one
    };
    /// Norms, and products where wanted, of the rows of a tile.
    Buffers compute(const MatrixView& x, bool products, Scratch& scratch) const {
      Buffers buffers = {scratch.matrix(x.rows(), std::ssize(orders_)),
                         scratch.matrix(x.rows(), packed_gradients_.rows()),
                         scratch.span<float>(x.rows()), scratch.span<float>(x.rows())};
      kernels::row_norms(x, orders_, buffers.norms);
      if (products) kernels::matmul_nt(x, packed_gradients_, buffers.dots);
      return buffers;
    }
    /// Fills scale and shift of a model; returns its products (without meaning if none were made).
    MatrixView select(std::size_t model, Buffers& buffers) const;

   private:
    struct Member {
      Index geometry;  // models of the same p and gradient have the same norms and products
      double temperature;
    };
    std::vector<Member> members_;
    std::vector<double> orders_;  // p, q of each geometry
    Index classes_ = 0;
    kernels::PackedMatrix packed_gradients_;  // of all geometries, one below the other
  };

  /// sum_i c_i exp(-d(z_i, mu_k) / t) for each k, of all rows or of those of class k, for each of
  /// several models that agree in the options of the partition.
  class PartitionSums {
   public:
    explicit PartitionSums(std::span<const ConjNorm* const> models);

    Inputs inputs() const { return {.features = true, .labels = per_class()}; }
    void add(const Batch& batch);
    void merge(const PartitionSums& other);
    void visit(FieldVisitor& v);
    PartitionEstimate estimate(std::size_t model) const;

   private:
    const Options& options() const { return models_.front()->options_; }
    bool per_class() const { return options().partition == Partition::per_class; }
    /// c_i of a row, by its number in the source.
    Index draws(Index row) const;
    void add_rows(const MatrixView& x, Labels labels);

    std::vector<const ConjNorm*> models_;
    std::shared_ptr<const RowTerms> terms_;
    std::vector<LogSumExp> sums_;  // of each model
    std::vector<Index> drawn_;     // sum_i c_i of each class, or of all rows
  };

  /// Rows, log Phi, its standard error and the effective sample size of each class; a warning where
  /// the latter is below 1 % of the samples, or below 10.
  Diagnostics found() const override;

  class Group;   // settings that are worked on together
  class Groups;  // any settings

  bool bound_by_products() const override { return true; }
  void prepare() override;
  void set_offsets();

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    RowTerms::Buffers buffers = terms_.compute(*tile.features, true, scratch);
    score_rows(terms_.select(0, buffers), buffers, out);
  }

  void score_rows(const MatrixView& dots, const RowTerms::Buffers& terms,
                  std::span<float> out) const {
    kernels::row_log_sum_exp_affine(dots, terms.scale, offsets_, out);
    kernels::add_scaled(out, 1, terms.shift, out);
  }

  Options options_;
  Matrix gradients_;                                            // g(mu_k), [C, D]
  VectorD half_squares_;                                        // |mu_k|_q^2 / 2, [C]
  VectorD log_priors_;                                          // log pi_k, [C]
  VectorD log_partition_, standard_error_, effective_samples_;  // [C]
  std::vector<Index> class_rows_;
  Proposal proposal_used_ = Proposal::automatic;
  // derived
  RowTerms terms_;
  std::vector<float> offsets_;  // -|mu_k|_q^2 / 2t - log Phi_k + log pi_k
};

}  // namespace ood
