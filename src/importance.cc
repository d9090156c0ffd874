#include "ood/importance.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>
#include <vector>

#include "errors.h"
#include "ood/accumulators/log_sum_exp.h"
#include "ood/kernels.h"
#include "ood/random.h"

namespace ood {

namespace {

/// Samples that one thread draws and weighs at a time; even, so that antithetic pairs stay whole.
constexpr Index kTileSamples = 16;

constexpr std::uint32_t kDrawStream = 0x100, kPilotStream = 0x110;  // + proposal

/// Draws e of a proposal at 0 with t = 1, and the logarithm of its density there.
class Sampler {
 public:
  Sampler(Proposal proposal, const ImportanceOptions& options, double q, Index dim,
          std::uint32_t stream)
      : proposal_(proposal),
        freedom_(options.degrees_of_freedom),
        antithetic_(options.antithetic),
        seed_(options.seed),
        q_(q),
        dim_(static_cast<double>(dim)),
        stream_(stream + static_cast<std::uint32_t>(proposal)) {
    using std::lgamma, std::log, std::numbers::pi;
    if (proposal == Proposal::gaussian) log_norm_ = dim_ / 2 * log(2 * pi);
    if (proposal == Proposal::student_t)
      log_norm_ =
          lgamma(freedom_ / 2) - lgamma((freedom_ + dim_) / 2) + dim_ / 2 * log(freedom_ * pi);
    if (proposal == Proposal::matched)
      log_norm_ = dim_ * (log(2.0) + lgamma(1 + 1 / q)) - lgamma(1 + dim_ / q) +
                  dim_ / 2 * log(2.0) + lgamma(1 + dim_ / 2);
  }

  /// log of what the density was divided by.
  double log_norm() const { return log_norm_; }

  /// Sample `m` into `e`; returns log r(e) + log_norm().
  double draw(Index m, Eigen::Ref<Vector> e) const {
    const bool mirrored = antithetic_ && m % 2 == 1;
    ItemRandom random(seed_, stream_, static_cast<std::uint64_t>(antithetic_ ? m / 2 : m));
    const double log_density =
        proposal_ == Proposal::matched ? draw_matched(random, e) : draw_round(random, e);
    if (mirrored) e = -e;
    return log_density;
  }

 private:
  double draw_round(ItemRandom& random, Eigen::Ref<Vector> e) const {
    std::normal_distribution<double> normal;
    double scale = 1;
    if (proposal_ == Proposal::student_t)
      scale = 1 / std::sqrt(std::chi_squared_distribution<double>(freedom_)(random) / freedom_);
    for (float& entry : e) entry = static_cast<float>(scale * normal(random));
    const double square = e.cast<double>().squaredNorm();  // of the entries as they were rounded
    return proposal_ == Proposal::gaussian ? -square / 2
                                           : -(freedom_ + dim_) / 2 * std::log1p(square / freedom_);
  }

  double draw_matched(ItemRandom& random, Eigen::Ref<Vector> e) const {
    const double square = std::chi_squared_distribution<double>(dim_)(random);
    // |y|^q is Gamma(1/q) = Gamma(1 + 1/q) U^q, and the power 1/q of it never leaves the range
    std::gamma_distribution<double> gamma(1 + 1 / q_);
    VectorD y(e.size());
    for (double& entry : y) {
      const std::uint32_t word = random();
      const double u = (word >> 1) * 0x1p-31;
      entry = std::pow(gamma(random), 1 / q_) * (word & 1 ? u : -u);
    }
    const double largest = y.cwiseAbs().maxCoeff();
    const double norm = largest * std::pow((y.array().abs() / largest).pow(q_).sum(), 1 / q_);
    e = (y * (std::sqrt(square) / norm)).cast<float>();
    return -square / 2;
  }

  Proposal proposal_;
  double freedom_;
  bool antithetic_;
  std::uint64_t seed_;
  double q_, dim_;
  std::uint32_t stream_;
  double log_norm_ = 0;
};

/// Weighs samples of one proposal for all classes.
class Weigher {
 public:
  explicit Weigher(const BregmanDensities& densities)
      : densities_(densities),
        centers_(densities.centers.cast<float>()),
        packed_(MatrixView(densities.gradients)),
        at_center_(
            densities.centers.cwiseProduct(densities.gradients.cast<double>()).rowwise().sum()) {}

  PartitionEstimate estimate(const Sampler& sampler, const ImportanceOptions& options,
                             Index samples, const Exec& exec) const {
    const Index classes = centers_.rows(), tiles = (samples + kTileSamples - 1) / kTileSamples;
    const bool pairs = options.antithetic;
    struct Sums {
      LogSumExp weights, pair_means;
    };
    std::vector<Sums> parts(static_cast<std::size_t>(tiles));
    parallel_for(tiles, exec, [&](Index tile) {
      const Index first = tile * kTileSamples;
      thread_local Matrix log_weights;
      weigh(sampler, first, std::min(kTileSamples, samples - first), log_weights);
      Sums& part = parts[static_cast<std::size_t>(tile)];
      part.weights = LogSumExp(classes);
      part.weights.add_columns(log_weights);
      if (!pairs) return;
      part.pair_means = LogSumExp(classes);
      for (Index i = 0; i < log_weights.rows(); i += 2)
        for (Index k = 0; k < classes; ++k)
          part.pair_means.add(k, log_mean(log_weights(i, k), log_weights(i + 1, k)));
    });
    Sums total{LogSumExp(classes), LogSumExp(classes)};
    for (const Sums& part : parts) {
      total.weights.merge(part.weights);
      if (pairs) total.pair_means.merge(part.pair_means);
    }

    PartitionEstimate estimate;
    // what was left out of the exponents: the density is that of z = mu + sqrt(t) e
    const double constant =
        sampler.log_norm() +
        static_cast<double>(centers_.cols()) / 2 * std::log(densities_.temperature) -
        std::log(static_cast<double>(samples));
    estimate.log_partition = total.weights.values().array() + constant;
    estimate.effective_samples = total.weights.effective_terms();
    const auto count = [&](Index n) { return VectorD::Constant(classes, static_cast<double>(n)); };
    estimate.standard_error = pairs ? total.pair_means.standard_error(count(samples / 2))
                                    : total.weights.standard_error(count(samples));
    return estimate;
  }

 private:
  static double log_mean(double a, double b) {
    const double larger = std::max(a, b);
    return larger + std::log((std::exp(a - larger) + std::exp(b - larger)) / 2);
  }

  /// log w of `count` samples, [count, C], without the constants that all share.
  void weigh(const Sampler& sampler, Index first, Index count, Matrix& log_weights) const {
    thread_local Matrix draws, shifted, dots, norms;
    thread_local std::vector<double> log_densities;
    const double t = densities_.temperature;
    const auto sigma = static_cast<float>(std::sqrt(t));
    draws.resize(count, centers_.cols());
    log_densities.resize(static_cast<std::size_t>(count));
    for (Index m = 0; m < count; ++m)
      log_densities[static_cast<std::size_t>(m)] =
          sampler.draw(first + m, draws.row(m).transpose());
    kernels::matmul_nt(draws, packed_, dots);

    const std::array<double, 1> order = {densities_.q};
    log_weights.resize(count, centers_.rows());
    for (Index k = 0; k < centers_.rows(); ++k) {
      shifted = (sigma * draws).rowwise() + centers_.row(k);
      kernels::row_norms(shifted, order, norms);
      for (Index m = 0; m < count; ++m) {
        const double norm = norms(m, 0);
        const double product = at_center_[k] + std::sqrt(t) * static_cast<double>(dots(m, k));
        log_weights(m, k) =
            static_cast<float>(-(norm * norm / 2 + densities_.half_squares[k] - product) / t -
                               log_densities[static_cast<std::size_t>(m)]);
      }
    }
  }

  const BregmanDensities& densities_;
  Matrix centers_;
  kernels::PackedMatrix packed_;
  VectorD at_center_;  // <mu_k, g_k>
};

}  // namespace

PartitionEstimate importance_partition(const BregmanDensities& densities,
                                       const ImportanceOptions& options, const Exec& exec) {
  const Index samples = options.samples;
  if (samples < 2 || (options.antithetic && samples % 2 != 0))
    throw_invalid(
        "samples has {}, expected {}", samples,
        options.antithetic ? "an even number, 2 or more, for antithetic pairs" : "2 or more");
  const Weigher weigher(densities);
  const Index dim = densities.centers.cols();
  Proposal chosen = options.proposal;
  if (chosen == Proposal::automatic) {
    // draws of its own: choosing by the draws that are averaged would bias the estimate
    const Index pilot = std::min(samples, std::max<Index>(64, samples / 16 * 2));
    double best = 0;
    for (const Proposal proposal : {Proposal::gaussian, Proposal::matched, Proposal::student_t}) {
      const Sampler sampler(proposal, options, densities.q, dim, kPilotStream);
      const double size = weigher.estimate(sampler, options, pilot, exec).effective_samples.sum();
      if (size > 1.01 * best) {  // where they are equal, as at p = 2, the first
        best = size;
        chosen = proposal;
      }
    }
  }
  const Sampler sampler(chosen, options, densities.q, dim, kDrawStream);
  PartitionEstimate estimate = weigher.estimate(sampler, options, samples, exec);
  estimate.proposal = chosen;
  return estimate;
}

}  // namespace ood
