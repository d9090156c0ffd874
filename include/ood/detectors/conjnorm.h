#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "ood/accumulators/class_means.h"
#include "ood/accumulators/log_sum_exp.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/reduce.h"

namespace ood {

/// ConjNorm: class-conditional density from the Bregman divergence of an l_q norm.
///
///   S(z)     = log sum_k (1/C) exp(-d(z, mu_k) / t) / Phi_k   higher = more in-distribution
///   d(z, mu) = |z|_q^2 / 2 + |mu|_q^2 / 2 - <z, g(mu)>,       1/p + 1/q = 1
///   g(mu)_i  = sign(mu_i) |mu_i|^(q-1) / |mu|_q^(q-2)         0 where mu_i = 0
///   Phi_k    = sum_i exp(-d(z_i, mu_k) / t)                   over all training rows (pooled)
///                                                             or those of class k (per_class)
///            = 1                                              (none)
///
/// Rows z and class means mu_k (taken over raw rows) are first scaled to unit l_p norm:
/// x / (|x|_p + 1e-10).
///
/// needs  features [n, D] and labels [n] in [0, C) in fit, features in score; a row of each class
/// fit    one pass for the means; another for Phi unless partition = none
/// score  features [m, D] -> out [m]; unit: nats
/// cost   fit and score O(n D C) (per_class: fit O(n D)); memory C D floats
/// error  products and norms are float32: |error| of S is about 1e-6 |z|_q (|z|_q + |mu|_q) / t,
/// and        the same of log Phi; where rows of a class differ by less, their order is lost errors
/// std::domain_error: a class without rows source Peng et al., ICLR 2024, arXiv:2402.17888: psi =
/// |.|_p^2 / 2 and its conjugate phi =        |.|_q^2 / 2. The sums for Phi are those of the
/// authors' CIFAR (pooled) and ImageNet        (per_class) scripts, over each training row once,
/// where the scripts draw a bootstrap        sample. The scripts divide |mu_i|^(q-1) by a norm over
/// the classes instead of over the        features: here it is the formula of the paper. All is in
/// the log domain, where the        scripts add 1e-15 inside the logarithm and far samples tie;
/// |mu|_q^2 is kept, which they        drop.
class ConjNorm final : public Detector {
 public:
  enum class Partition { pooled, per_class, none };
  static constexpr std::array<std::string_view, 3> kPartitions = {"pooled", "per_class", "none"};

  struct Options {
    double p = 2.5;             ///< norm of psi, above 1; the paper searches (1, 3]
    double temperature = 0.08;  ///< t > 0
    Partition partition = Partition::pooled;
  };
  static constexpr std::string_view kName = "conjnorm";
  ConjNorm() = default;
  explicit ConjNorm(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .labels = true}, .score = {.features = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<ConjNorm>(*this); }

  /// log Phi_k, [C].
  const VectorD& log_partition() const { return log_partition_; }

  void visit(FieldVisitor& v) override {
    v.option("p", options_.p, Range{.min = 1, .max = 1e6, .open_min = true},
             "norm of psi; the paper searches (1, 3]");
    v.option("temperature", options_.temperature, Range{.min = 1e-8, .max = 1e3}, "t");
    v.option("partition", options_.partition, kPartitions,
             "Phi from all training rows, from those of each class, or 1");
    v.state("gradients", gradients_);
    v.state("half_squares", half_squares_);
    v.state("log_partition", log_partition_);
  }

 private:
  static constexpr double kTiny = 1e-10;  // the authors' guard in x / (|x|_p + 1e-10)

  double q() const { return options_.p / (options_.p - 1); }

  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const MatrixD means = reduce(source, ClassMeans(info.classes, info.dim), exec).means();
    set_means(means);
    if (options_.partition == Partition::none)
      log_partition_ = VectorD::Zero(means.rows());
    else
      log_partition_ = reduce(source, PartitionSums(*this), exec).log_partition();
  }

  /// mu_k / |mu_k|_p, then g(mu_k) and |mu_k|_q^2 / 2, in float64.
  void set_means(const MatrixD& means) {
    gradients_.resize(means.rows(), means.cols());
    half_squares_.resize(means.rows());
    for (Index k = 0; k < means.rows(); ++k) {
      const VectorD mu = means.row(k).transpose() / (norm(means.row(k), options_.p) + kTiny);
      const double size = norm(mu, q());
      half_squares_[k] = size * size / 2;
      // |mu_i|^(q-1) / |mu|_q^(q-2) = |mu|_q (|mu_i| / |mu|_q)^(q-1): no power of a large ratio
      for (Index i = 0; i < mu.size(); ++i)
        gradients_(k, i) = static_cast<float>(
            mu[i] == 0 ? 0
                       : std::copysign(size * std::pow(std::abs(mu[i]) / size, q() - 1), mu[i]));
    }
    packed_gradients_ = kernels::PackedMatrix(gradients_);
  }

  /// |x|_order with the largest entry factored out.
  static double norm(const VectorD& x, double order) {
    const double largest = x.cwiseAbs().maxCoeff();
    return largest == 0
               ? 0
               : largest * std::pow((x.array().abs() / largest).pow(order).sum(), 1 / order);
  }

  /// What a tile of raw rows x enters the formula with, z = x / (|x|_p + 1e-10):
  /// -d(z_i, mu_k) / t = scale_i <x_i, g_k> + shift_i - |mu_k|_q^2 / 2t.
  struct RowTerms {
    std::vector<float> scale;  // 1 / (t (|x_i|_p + 1e-10))
    std::vector<float> shift;  // -|z_i|_q^2 / 2t
  };
  void row_terms(const MatrixView& x, RowTerms& terms) const {
    thread_local Matrix norms;
    const std::array<double, 2> orders = {options_.p, q()};
    kernels::row_norms(x, orders, norms);
    terms.scale.resize(static_cast<std::size_t>(x.rows()));
    terms.shift.resize(terms.scale.size());
    for (Index i = 0; i < x.rows(); ++i) {
      const double unit = 1 / (static_cast<double>(norms(i, 0)) + kTiny);
      const double size = static_cast<double>(norms(i, 1)) * unit;
      terms.scale[static_cast<std::size_t>(i)] = static_cast<float>(unit / options_.temperature);
      terms.shift[static_cast<std::size_t>(i)] =
          static_cast<float>(-size * size / (2 * options_.temperature));
    }
  }

  /// sum_i exp(-d(z_i, mu_k) / t) for each k, of all rows or of those of class k.
  class PartitionSums {
   public:
    explicit PartitionSums(const ConjNorm& model)
        : model_(&model), sums_(model.gradients_.rows()) {}

    Inputs inputs() const {
      return {.features = true, .labels = model_->options_.partition == Partition::per_class};
    }

    void add(const Batch& batch) {
      for (Index first = 0; first < batch.rows(); first += kernels::kTileRows)
        add_tile(batch.slice(first, std::min(kernels::kTileRows, batch.rows() - first)));
    }

    void merge(const PartitionSums& other) { sums_.merge(other.sums_); }

    VectorD log_partition() const {
      return sums_.values() - model_->half_squares_ / model_->options_.temperature;
    }

    void visit(FieldVisitor& v) { sums_.visit(v); }

   private:
    void add_tile(const Batch& tile) {
      thread_local RowTerms terms;
      const MatrixView& x = *tile.features;
      model_->row_terms(x, terms);
      if (model_->options_.partition == Partition::pooled) {
        thread_local Matrix dots;
        kernels::matmul_nt(x, model_->packed_gradients_, dots);
        sums_.add_columns(dots, terms.scale, terms.shift);
        return;
      }
      thread_local std::vector<float> own;  // <x_i, g_k> for the class k of row i alone
      own.resize(terms.scale.size());
      kernels::row_dot_selected(x, model_->gradients_, *tile.labels, own);
      for (std::size_t i = 0; i < own.size(); ++i)
        sums_.add((*tile.labels)[i], static_cast<double>(terms.scale[i]) * own[i] + terms.shift[i]);
    }

    const ConjNorm* model_;
    LogSumExp sums_;
  };

  void prepare() override {
    const Index classes = gradients_.rows();
    if (classes < 1 || half_squares_.size() != classes || log_partition_.size() != classes)
      throw std::invalid_argument("shapes of gradients, half_squares and log_partition disagree");
    packed_gradients_ = kernels::PackedMatrix(gradients_);
    // -|mu_k|_q^2 / 2t - log Phi_k - log C
    offsets_.resize(static_cast<std::size_t>(gradients_.rows()));
    const double log_classes = std::log(static_cast<double>(gradients_.rows()));
    for (Index k = 0; k < gradients_.rows(); ++k)
      offsets_[static_cast<std::size_t>(k)] = static_cast<float>(
          -half_squares_[k] / options_.temperature - log_partition_[k] - log_classes);
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    thread_local RowTerms terms;
    thread_local Matrix dots;
    row_terms(*tile.features, terms);
    kernels::matmul_nt(*tile.features, packed_gradients_, dots);
    kernels::row_log_sum_exp_affine(dots, terms.scale, offsets_, out);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += terms.shift[i];
  }

  Options options_;
  Matrix gradients_;       // g(mu_k), [C, D]
  VectorD half_squares_;   // |mu_k|_q^2 / 2, [C]
  VectorD log_partition_;  // log Phi_k, [C]
  // derived
  kernels::PackedMatrix packed_gradients_;
  std::vector<float> offsets_;
};

}  // namespace ood
