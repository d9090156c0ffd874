#include "ood/importance.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
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

/// Tiles whose sums are held at a time, until they are merged in their order.
constexpr Index kTilesAtOnce = 64;

/// What `auto` chooses from; of equals, such as those at p = 2, the first.
constexpr std::array kChoices = {Proposal::gaussian, Proposal::matched, Proposal::student_t};

constexpr std::uint32_t kDrawStream = 0x100, kPilotStream = 0x110;  // + proposal

/// The density r of a proposal at 0 with t = 1, and draws from it.
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

  Proposal proposal() const { return proposal_; }
  /// log of what makes r integrate to 1.
  double log_norm() const { return log_norm_; }

  /// log r(e) by |e|_2^2 (gaussian, student_t) or |e|_q^2 (matched).
  double log_density(double square, double q_square) const {
    if (proposal_ == Proposal::gaussian) return -square / 2 - log_norm_;
    if (proposal_ == Proposal::matched) return -q_square / 2 - log_norm_;
    return -(freedom_ + dim_) / 2 * std::log1p(square / freedom_) - log_norm_;
  }

  /// Draw `m` into `e`; returns log r(e).
  double draw(Index m, Eigen::Ref<Vector> e) const {
    const bool mirrored = antithetic_ && m % 2 == 1;
    ItemRandom random(seed_, stream_, static_cast<std::uint64_t>(antithetic_ ? m / 2 : m));
    const double log_r =
        proposal_ == Proposal::matched ? draw_matched(random, e) : draw_round(random, e);
    if (mirrored) e = -e;
    return log_r;
  }

 private:
  double draw_round(ItemRandom& random, Eigen::Ref<Vector> e) const {
    std::normal_distribution<double> normal;
    double scale = 1;
    if (proposal_ == Proposal::student_t)
      scale = 1 / std::sqrt(std::chi_squared_distribution<double>(freedom_)(random) / freedom_);
    for (float& entry : e) entry = static_cast<float>(scale * normal(random));
    return log_density(e.cast<double>().squaredNorm(), 0);  // of the entries as they were rounded
  }

  double draw_matched(ItemRandom& random, Eigen::Ref<Vector> e) const {
    const double square = std::chi_squared_distribution<double>(dim_)(random);
    // |y|^q is Gamma(1/q) = Gamma(1 + 1/q) U^q, and the power 1/q of it never leaves the range
    std::gamma_distribution<double> gamma(1 + 1 / q_);
    VectorD y(e.size());
    for (double& entry : y) {
      const std::uint32_t word = random();
      const double u = ((word >> 1) + 0.5) * 0x1p-31;  // never 0: y = 0 has no direction
      entry = std::pow(gamma(random), 1 / q_) * (word & 1 ? u : -u);
    }
    const double largest = y.cwiseAbs().maxCoeff();
    const double norm = largest * std::pow((y.array().abs() / largest).pow(q_).sum(), 1 / q_);
    e = (y * (std::sqrt(square) / norm)).cast<float>();
    return log_density(0, square);
  }

  Proposal proposal_;
  double freedom_;
  bool antithetic_;
  std::uint64_t seed_;
  double q_, dim_;
  std::uint32_t stream_;
  double log_norm_ = 0;
};

/// Draws in rows, and log r of each.
struct Draws {
  Matrix e;
  VectorD log_r;

  void fill(const Sampler& sampler, Index first, Index count, Index dim) {
    e.resize(count, dim);
    log_r.resize(count);
    for (Index m = 0; m < count; ++m) log_r[m] = sampler.draw(first + m, e.row(m).transpose());
  }
};

/// Weighs draws for all classes. f_k(e) = exp(-d_k(mu_k + sqrt(t) e) / t), w = f / r.
class Weigher {
 public:
  explicit Weigher(const BregmanDensities& densities)
      : densities_(densities),
        centers_(densities.centers.cast<float>()),
        packed_(MatrixView(densities.gradients)),
        at_center_(
            densities.centers.cwiseProduct(densities.gradients.cast<double>()).rowwise().sum()) {}

  Index dim() const { return centers_.cols(); }
  Index classes() const { return centers_.rows(); }

  PartitionEstimate estimate(const Sampler& sampler, const ImportanceOptions& options,
                             const Exec& exec) const {
    const Index samples = options.samples, tiles = (samples + kTileSamples - 1) / kTileSamples;
    const bool pairs = options.antithetic;
    struct Sums {
      LogSumExp weights, pair_means;
    };
    Sums total{LogSumExp(classes()), LogSumExp(classes())};
    const auto add_tile = [&](Index tile, Sums& part) {
      const Index first = tile * kTileSamples;
      thread_local Draws draws;
      thread_local MatrixD log_f;
      draws.fill(sampler, first, std::min(kTileSamples, samples - first), dim());
      evaluate(draws.e, log_f);
      // without the large constant, so that float32 keeps the digits that tell weights apart
      const VectorD log_r = draws.log_r.array() + sampler.log_norm();
      const Matrix log_weights = (log_f.colwise() - log_r).cast<float>();
      part.weights = LogSumExp(classes());
      part.weights.add_columns(log_weights);
      if (!pairs) return;
      part.pair_means = LogSumExp(classes());
      for (Index i = 0; i < log_weights.rows(); i += 2)
        for (Index k = 0; k < classes(); ++k)
          part.pair_means.add(k, log_mean(log_weights(i, k), log_weights(i + 1, k)));
    };
    in_order<Sums>(tiles, exec, add_tile, [&](const Sums& part) {
      total.weights.merge(part.weights);
      if (pairs) total.pair_means.merge(part.pair_means);
    });

    const auto count = [&](Index n) {
      return VectorD::Constant(classes(), static_cast<double>(n));
    };
    PartitionEstimate estimate;
    estimate.log_partition = total.weights.values().array() + sampler.log_norm() + log_volume() -
                             std::log(static_cast<double>(samples));
    estimate.effective_samples = total.weights.effective_terms();
    estimate.standard_error = pairs ? total.pair_means.standard_error(count(samples / 2))
                                    : total.weights.standard_error(count(samples));
    estimate.proposal = sampler.proposal();
    return estimate;
  }

  /// The proposal with the larger effective sample size, (int f)^2 / int f^2 / r for each draw, in
  /// the class where that is smallest. Each is judged on draws from all of them, weighed by the
  /// density of the mixture: its own draws would not tell of what they miss.
  Proposal choose(const ImportanceOptions& options, Index pilot, const Exec& exec) const {
    std::vector<Sampler> samplers;
    for (const Proposal kind : kChoices)
      samplers.emplace_back(kind, options, densities_.q, dim(), kPilotStream);
    struct Sums {
      LogSumExp integral;                                     // of f
      std::array<LogSumExp, kChoices.size()> second_moments;  // of w under each proposal
    };
    const Index tiles_of_each = (pilot + kTileSamples - 1) / kTileSamples;
    const auto add_tile = [&](Index tile, Sums& part) {
      const Index first = tile % tiles_of_each * kTileSamples;
      const Sampler& drawn_by = samplers[static_cast<std::size_t>(tile / tiles_of_each)];
      thread_local Draws draws;
      thread_local MatrixD log_f;
      thread_local Matrix norms;
      draws.fill(drawn_by, first, std::min(kTileSamples, pilot - first), dim());
      evaluate(draws.e, log_f);
      const std::array<double, 1> order = {densities_.q};
      kernels::row_norms(draws.e, order, norms);

      MatrixD log_r(draws.e.rows(), std::ssize(kChoices));
      VectorD log_mixture(draws.e.rows());
      for (Index m = 0; m < log_r.rows(); ++m) {
        const double norm = norms(m, 0), square = draws.e.row(m).cast<double>().squaredNorm();
        for (std::size_t j = 0; j < kChoices.size(); ++j)
          log_r(m, static_cast<Index>(j)) = samplers[j].log_density(square, norm * norm);
        const double largest = log_r.row(m).maxCoeff();
        log_mixture[m] = largest + std::log((log_r.row(m).array() - largest).exp().mean());
      }
      const auto sums = [&](const MatrixD& exponents) {
        LogSumExp columns(classes());
        columns.add_columns(Matrix(exponents.cast<float>()));
        return columns;
      };
      part.integral = sums(log_f.colwise() - log_mixture);
      for (std::size_t j = 0; j < kChoices.size(); ++j)
        part.second_moments[j] =
            sums((2 * log_f).colwise() - (log_mixture + log_r.col(static_cast<Index>(j))));
    };
    Sums total{LogSumExp(classes()), {}};
    total.second_moments.fill(LogSumExp(classes()));
    in_order<Sums>(tiles_of_each * std::ssize(kChoices), exec, add_tile, [&](const Sums& part) {
      total.integral.merge(part.integral);
      for (std::size_t j = 0; j < kChoices.size(); ++j)
        total.second_moments[j].merge(part.second_moments[j]);
    });
    Proposal chosen = kChoices.front();
    double best = -std::numeric_limits<double>::infinity();
    for (std::size_t j = 0; j < kChoices.size(); ++j) {
      // the logarithm of the share, but for what all have in common
      const double share =
          (2 * total.integral.values() - total.second_moments[j].values()).minCoeff();
      if (share > best + 0.01) {
        best = share;
        chosen = kChoices[j];
      }
    }
    return chosen;
  }

 private:
  /// Makes the parts of some tiles at a time on several threads, and takes them in their order.
  template <class Part, class Make, class Take>
  static void in_order(Index tiles, const Exec& exec, const Make& make, const Take& take) {
    for (Index begin = 0; begin < tiles; begin += kTilesAtOnce) {
      std::vector<Part> parts(static_cast<std::size_t>(std::min(kTilesAtOnce, tiles - begin)));
      parallel_for(std::ssize(parts), exec,
                   [&](Index i) { make(begin + i, parts[static_cast<std::size_t>(i)]); });
      for (const Part& part : parts) take(part);
    }
  }

  static double log_mean(double a, double b) {
    const double larger = std::max(a, b);
    return larger + std::log((std::exp(a - larger) + std::exp(b - larger)) / 2);
  }

  /// log of the volume that z = mu + sqrt(t) e takes of that of e.
  double log_volume() const {
    return static_cast<double>(dim()) / 2 * std::log(densities_.temperature);
  }

  /// log f_k(e_m), [rows of e, C].
  void evaluate(const Matrix& e, MatrixD& log_f) const {
    thread_local Matrix shifted, dots, norms;
    const double t = densities_.temperature;
    const auto sigma = static_cast<float>(std::sqrt(t));
    kernels::matmul_nt(e, packed_, dots);
    const std::array<double, 1> order = {densities_.q};
    log_f.resize(e.rows(), classes());
    for (Index k = 0; k < classes(); ++k) {
      shifted = (sigma * e).rowwise() + centers_.row(k);
      kernels::row_norms(shifted, order, norms);
      for (Index m = 0; m < e.rows(); ++m) {
        const double norm = norms(m, 0);
        const double product = at_center_[k] + std::sqrt(t) * static_cast<double>(dots(m, k));
        log_f(m, k) = -(norm * norm / 2 + densities_.half_squares[k] - product) / t;
      }
    }
  }

  const BregmanDensities& densities_;
  Matrix centers_;
  kernels::PackedMatrix packed_;
  VectorD at_center_;  // <mu_k, g_k>
};

}  // namespace

void require_valid(const ImportanceOptions& options) {
  if (options.samples < 2 || (options.antithetic && options.samples % 2 != 0))
    throw_invalid(
        "samples has {}, expected {}", options.samples,
        options.antithetic ? "an even number, 2 or more, for antithetic pairs" : "2 or more");
}

PartitionEstimate importance_partition(const BregmanDensities& densities,
                                       const ImportanceOptions& options, const Exec& exec) {
  require_valid(options);
  const Index samples = options.samples;
  const Weigher weigher(densities);
  Proposal chosen = options.proposal;
  if (chosen == Proposal::automatic) {
    // draws of its own: choosing by the draws that are averaged would bias the estimate
    const Index pilot = std::min(samples, std::max<Index>(64, samples / 16 * 2));
    chosen = weigher.choose(options, pilot, exec);
  }
  return weigher.estimate(Sampler(chosen, options, densities.q, weigher.dim(), kDrawStream),
                          options, exec);
}

}  // namespace ood
