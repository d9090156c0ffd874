// ConjNorm's sampled partition functions: against quadrature in one to three dimensions, against
// the Gaussian's closed form, and, repeated over seeds, against the errors that they report.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "detectors/conjnorm_quadrature.h"
#include "ood/detectors/conjnorm.h"
#include "ood/reduce.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;
using namespace ood::test;

namespace {

using Options = ConjNorm::Options;
using Partition = ConjNorm::Partition;
using Proposal = ConjNorm::Proposal;
using Resample = ConjNorm::Resample;

constexpr std::array kSampled = {Proposal::gaussian, Proposal::student_t, Proposal::matched};
constexpr std::array kChoices = {Proposal::automatic, Proposal::gaussian, Proposal::student_t,
                                 Proposal::matched};
constexpr std::array kOrders = {1.2, 1.5, 2.0, 2.5, 3.0};
constexpr std::array kTemperatures = {0.1, 0.5};
constexpr int kRepeats = 200;
/// Of log Phi, beside the sampling error: exponents are float32, and about |z|_q^2 / t in size.
constexpr double kRounding = 3e-5;

/// Whether the tail of the weights is so short that some thousand of them show all of it. Where it
/// is not, the standard error is too small whenever the estimate is. Checked below.
bool sound(Proposal proposal, Index dim, double p, double t) {
  // In one dimension and at p = 2 the target is a Gaussian; and no target outlasts a Student t.
  if (dim == 1 || p == 2 || proposal == Proposal::student_t) return true;
  // For q > 2, |u|_q^2 can be as small as |u|^2 / D^(1-2/q). Once that ratio is 4/3 the weights
  // have no fourth moment, at 2 no variance. It is 1.26 for D = 2 and p = 1.5, which is too near.
  if (proposal == Proposal::gaussian) return p > 2;
  // The tails are those of the target and all moments exist; but within about |mu| of mu, which for
  // a small t is many sqrt(t), the target is the wider one in some direction.
  return t == 0.5 || p == 2.5;
}

/// Of any sign, one of them 0, all exact in float32.
std::vector<Point> class_means(Index dim) {
  if (dim == 1) return {Point{{0.75}}, Point{{-1.25}}};
  if (dim == 2) return {Point{{0.875, -0.375}}, Point{{-0.5, -1.125}}, Point{{0.0, 1.0}}};
  return {Point{{-0.375, 0.875, 0.75}}, Point{{0.75, 0.0, -0.5}}};
}

std::vector<Target> targets(Index dim, double p, double t) {
  std::vector<Target> all;
  for (const Point& mean : class_means(dim)) all.emplace_back(mean, p, t);
  return all;
}

ConjNorm fitted(const Batch& rows, const Options& options, int threads = 1,
                Index batch_rows = 16'384) {
  ConjNorm detector(options);
  MemorySource source(rows, nullptr, batch_rows);
  detector.fit(source, Exec{threads});
  return detector;
}

/// Fitted by sampling on two rows of each class, which have its mean.
ConjNorm sampled(Index dim, Options options, int threads = 1) {
  const auto means = class_means(dim);
  Matrix features(2 * std::ssize(means), dim);
  std::vector<std::int64_t> labels;
  for (Index i = 0; i < features.rows(); ++i) {
    const Point row = means[static_cast<std::size_t>(i / 2)].array() + (i % 2 == 0 ? 0.25 : -0.25);
    features.row(i) = row.cast<float>().transpose();
    labels.push_back(i / 2);
  }
  Batch rows;
  rows.features = features;
  rows.labels = labels;
  options.partition = Partition::importance;
  return fitted(rows, options, threads);
}

/// Mean and standard deviation of repetitions.
struct Moments {
  double mean, sd;
};
Moments moments(const std::vector<double>& values) {
  const Eigen::Map<const VectorD> x(values.data(), std::ssize(values));
  return {x.mean(), std::sqrt((x.array() - x.mean()).square().sum() /
                              static_cast<double>(std::ssize(values) - 1))};
}

/// Over seeds, for each class: Phi over that of the quadrature, standard errors, effective samples.
struct Repeated {
  std::vector<std::vector<double>> ratios, errors, effective;
};
Repeated repeat(Index dim, Options options) {
  const auto classes = targets(dim, options.p, options.temperature);
  std::vector<double> phi;
  for (const Target& target : classes) phi.push_back(quadrature(target));
  const std::vector<std::vector<double>> none(classes.size());
  Repeated all{none, none, none};
  for (options.seed = 0; options.seed < kRepeats; ++options.seed) {
    const ConjNorm detector = sampled(dim, options);
    for (std::size_t k = 0; k < phi.size(); ++k) {
      const auto row = static_cast<Index>(k);
      all.ratios[k].push_back(std::exp(detector.log_partition()[row]) / phi[k]);
      all.errors[k].push_back(detector.standard_error()[row]);
      all.effective[k].push_back(detector.effective_samples()[row]);
    }
  }
  return all;
}

/// How rows may be drawn: how often each is on average, and the variance of that.
struct Draw {
  Resample resample;
  double share, variance;
};
constexpr std::array kDraws = {Draw{Resample::bootstrap, 1, 1}, Draw{Resample::bootstrap, 0.5, 0.5},
                               Draw{Resample::none, 0.5, 0.25}};

bool same_bytes(const Detector& a, const Detector& b) { return to_bytes(a) == to_bytes(b); }

}  // namespace

TEST_CASE("conjnorm partition: the quadrature of these tests is one") {
  for (const Index dim : {1, 2, 3})
    for (const double p : kOrders)
      for (const double t : kTemperatures) {
        CAPTURE(dim);
        CAPTURE(p);
        CAPTURE(t);
        const Target target = targets(dim, p, t).front();
        const double phi = quadrature(target);
        const double gaussian = std::pow(2 * std::numbers::pi * t, static_cast<double>(dim) / 2);
        if (dim == 1 || p == 2) CHECK(std::abs(phi / gaussian - 1) < 1e-9);
        // q = 6 has the sharpest ridges, where two entries are equal in size
        if (dim < 3 || (p == 1.2 && t == 0.1))
          CHECK(std::abs(quadrature(target, 80) / phi - 1) < 1e-7);
      }
}

TEST_CASE("conjnorm partition: proposals left out below have weights with too long a tail") {
  for (const Index dim : {1, 2, 3})
    for (const double p : kOrders)
      for (const double t : kTemperatures)
        for (const Proposal proposal : kSampled) {
          CAPTURE(dim);
          CAPTURE(p);
          CAPTURE(t);
          CAPTURE(static_cast<int>(proposal));
          double worst = 0;
          for (const Target& target : targets(dim, p, t)) {
            const Spread weights = spread(target, proposal);
            if (weights.variance > 1e-9) worst = std::max(worst, weights.kurtosis);
          }
          CHECK((worst < 500) == sound(proposal, dim, p, t));
        }
}

TEST_CASE("conjnorm partition: agrees with quadrature within its own standard error") {
  for (const Index dim : {1, 2, 3})
    for (const double p : kOrders)
      for (const double t : kTemperatures) {
        const auto classes = targets(dim, p, t);
        VectorD want(std::ssize(classes));
        for (Index k = 0; k < want.size(); ++k)
          want[k] = std::log(quadrature(classes[static_cast<std::size_t>(k)]));
        for (const Proposal proposal : kChoices)
          for (const Index seed : {1, 2, 3}) {
            if (proposal != Proposal::automatic && !sound(proposal, dim, p, t)) continue;
            const ConjNorm detector = sampled(
                dim,
                {.p = p, .temperature = t, .proposal = proposal, .samples = 4096, .seed = seed});
            const Proposal used = detector.proposal_used();
            CAPTURE(dim);
            CAPTURE(p);
            CAPTURE(t);
            CAPTURE(static_cast<int>(proposal));
            CAPTURE(static_cast<int>(used));
            CAPTURE(seed);
            CHECK((used == proposal) == (proposal != Proposal::automatic));
            for (Index k = 0; k < want.size(); ++k) {
              CAPTURE(k);
              const double error = detector.standard_error()[k];
              CHECK(error < 0.05);
              CHECK(std::abs(detector.log_partition()[k] - want[k]) <= 4 * error + kRounding);
            }
          }
      }
}

TEST_CASE("conjnorm partition: automatic takes the proposal with the most effective samples") {
  struct Case {
    Index dim;
    double p, t;
    Proposal want;
  };
  // Where one is ahead by far enough that it does not take luck
  for (const Case& c : {Case{2, 1.2, 0.1, Proposal::student_t},
                        {3, 1.5, 0.5, Proposal::matched},
                        {3, 3.0, 0.1, Proposal::gaussian}}) {
    CAPTURE(c.p);
    for (Index seed = 0; seed < 20; ++seed) {
      const Options options{.p = c.p, .temperature = c.t, .samples = 4096, .seed = seed};
      CHECK(sampled(c.dim, options).proposal_used() == c.want);
    }
  }
}

TEST_CASE("conjnorm partition: unbiased, and the reported error is that of repetition") {
  struct Case {
    Proposal proposal;
    double p;
  };
  const Index samples = 512;
  const double t = 0.5;
  for (const Case& c : {Case{Proposal::automatic, 1.5},
                        {Proposal::automatic, 2.5},
                        {Proposal::student_t, 1.5},
                        {Proposal::student_t, 2.5},
                        {Proposal::matched, 1.5},
                        {Proposal::matched, 2.5},
                        {Proposal::gaussian, 2.5}})
    for (const bool antithetic : {false, true}) {
      CAPTURE(static_cast<int>(c.proposal));
      CAPTURE(c.p);
      CAPTURE(antithetic);
      const Repeated all = repeat(2, {.p = c.p,
                                      .temperature = t,
                                      .proposal = c.proposal,
                                      .samples = samples,
                                      .antithetic = antithetic});
      const auto classes = targets(2, c.p, t);
      for (std::size_t k = 0; k < classes.size(); ++k) {
        CAPTURE(k);
        const Moments ratio = moments(all.ratios[k]), error = moments(all.errors[k]);
        CHECK(std::abs(ratio.mean - 1) <= 4 * ratio.sd / std::sqrt(kRepeats));
        // The sd of an sd of n values is 1 / sqrt(2 n) of it
        CHECK(std::abs(error.mean / ratio.sd - 1) <= 4 / std::sqrt(2.0 * kRepeats));
        if (c.proposal == Proposal::automatic) continue;
        const double variance = spread(classes[k], c.proposal).variance;
        CHECK(moments(all.effective[k]).mean * (1 + variance) ==
              doctest::Approx(samples).epsilon(0.02));
        if (!antithetic)
          CHECK(error.mean == doctest::Approx(std::sqrt(variance / samples)).epsilon(0.05));
      }
    }
}

TEST_CASE("conjnorm partition: antithetic pairs cancel what is odd in the weights") {
  // At a high temperature the target is a bell about 0 and the proposal the same about mu: their
  // ratio is 1 + something odd in z - mu, to first order in mu / sqrt(t).
  Options options{.p = 1.5, .temperature = 10, .proposal = Proposal::matched, .samples = 512};
  const Repeated plain = repeat(2, options);
  options.antithetic = true;
  const Repeated paired = repeat(2, options);
  for (std::size_t k = 0; k < plain.ratios.size(); ++k) {
    CAPTURE(k);
    CHECK(moments(paired.ratios[k]).sd < 0.5 * moments(plain.ratios[k]).sd);
    CHECK(moments(paired.errors[k]).mean < 0.5 * moments(plain.errors[k]).mean);
  }
}

TEST_CASE("conjnorm partition: at p = 2 it is a mixture of Gaussians on the unit sphere") {
  constexpr Index dim = 50, classes = 3, samples = 1024;
  constexpr double t = 0.08;
  const auto train = test::make_synthetic(60, dim, classes, 7);
  const auto queries = test::make_synthetic(40, dim, classes, 8);
  MatrixD means = MatrixD::Zero(classes, dim);
  for (Index i = 0; i < 60; ++i) means.row(i % classes) += train.features.row(i).cast<double>();
  means.rowwise().normalize();
  const MatrixD z = queries.features.cast<double>().rowwise().normalized();
  const double log_phi = dim / 2.0 * std::log(2 * std::numbers::pi * t);

  for (const Proposal proposal : {Proposal::automatic, Proposal::gaussian, Proposal::matched}) {
    CAPTURE(static_cast<int>(proposal));
    const ConjNorm detector = fitted(train.batch(), {.p = 2,
                                                     .temperature = t,
                                                     .partition = Partition::importance,
                                                     .proposal = proposal,
                                                     .samples = samples});
    for (Index k = 0; k < classes; ++k) {
      CHECK(std::abs(detector.log_partition()[k] / log_phi - 1) < 1e-5);
      CHECK(detector.standard_error()[k] < 1e-4);
      CHECK(std::abs(detector.effective_samples()[k] / samples - 1) < 1e-3);
    }
    const auto scores = detector.score(queries.batch());
    for (Index i = 0; i < z.rows(); ++i) {
      double sum = 0;
      for (Index k = 0; k < classes; ++k)
        sum += std::exp(-(z.row(i) - means.row(k)).squaredNorm() / (2 * t) - log_phi) / classes;
      const double want = std::log(sum), got = scores[static_cast<std::size_t>(i)];
      CHECK(std::abs(got - want) <= 1e-5 * std::abs(want));
    }
  }
}

TEST_CASE("conjnorm partition: a seed gives the same bits on any number of threads") {
  for (const Proposal proposal : kChoices)
    for (const bool antithetic : {false, true}) {
      CAPTURE(static_cast<int>(proposal));
      CAPTURE(antithetic);
      const Options options{.p = 2.5,
                            .temperature = 0.5,
                            .proposal = proposal,
                            .samples = 10'002,  // several pieces of work, the last one short
                            .antithetic = antithetic,
                            .seed = 5};
      const ConjNorm one = sampled(3, options, 1);
      for (const int threads : {1, 2, 7}) CHECK(same_bytes(sampled(3, options, threads), one));
      Options other = options;
      other.seed = 6;
      for (Index k = 0; k < 2; ++k)
        CHECK(sampled(3, other).log_partition()[k] != one.log_partition()[k]);
    }
}

TEST_CASE("conjnorm partition: a warning where few of the samples count, and only there") {
  const auto train = test::make_synthetic(40, 200, 2, 7);
  Options options{.partition = Partition::importance, .proposal = Proposal::gaussian};
  options.p = 3;
  const ConjNorm poor = fitted(train.batch(), options);
  CHECK(poor.effective_samples().minCoeff() < 0.01 * static_cast<double>(options.samples));
  CHECK_FALSE(poor.diagnostics().warnings.empty());

  options.p = 2;
  CHECK(fitted(train.batch(), options).diagnostics().warnings.empty());
}

TEST_CASE("conjnorm partition: a resample is the same for any threads and batches") {
  const auto train = test::make_synthetic(9'001, 4, 3, 7);  // several blocks of the reduction
  for (const Partition partition : {Partition::pooled, Partition::per_class}) {
    CAPTURE(static_cast<int>(partition));
    Options options{.p = 2.5,
                    .temperature = 0.5,
                    .partition = partition,
                    .resample = Resample::bootstrap,
                    .seed = 5};
    const ConjNorm one = fitted(train.batch(), options);
    for (const int threads : {1, 2, 7})
      for (const Index batch_rows : {100, 5'000, 9'001})
        CHECK(same_bytes(fitted(train.batch(), options, threads, batch_rows), one));
    options.seed = 6;
    const ConjNorm other = fitted(train.batch(), options);
    for (Index k = 0; k < 3; ++k) CHECK(other.log_partition()[k] != one.log_partition()[k]);
  }
}

TEST_CASE("conjnorm partition: a resample keeps its share of the sum") {
  const auto train = test::make_synthetic(120, 4, 3, 7);
  for (const Partition partition : {Partition::pooled, Partition::per_class})
    for (const Draw& draw : kDraws) {
      CAPTURE(static_cast<int>(partition));
      CAPTURE(static_cast<int>(draw.resample));
      CAPTURE(draw.share);
      Options options{.p = 2.5, .temperature = 0.5, .partition = partition};
      const VectorD all = fitted(train.batch(), options).log_partition();
      options.resample = draw.resample;
      options.share = draw.share;
      std::array<std::vector<double>, 3> ratios;
      for (options.seed = 0; options.seed < kRepeats; ++options.seed) {
        const VectorD part = fitted(train.batch(), options).log_partition();
        for (Index k = 0; k < 3; ++k)
          ratios[static_cast<std::size_t>(k)].push_back(std::exp(part[k] - all[k]));
      }
      for (const auto& values : ratios) {
        const Moments ratio = moments(values);
        CHECK(std::abs(ratio.mean - draw.share) <= 4 * ratio.sd / std::sqrt(kRepeats));
      }
    }
}

TEST_CASE("conjnorm partition: each row is drawn a whole number of times, on its own") {
  const Matrix features = Matrix::Ones(kBlockRows + 128, 2);  // Phi counts the draws
  const std::vector<std::int64_t> labels(static_cast<std::size_t>(features.rows()), 0);
  Batch rows;
  rows.features = features;
  rows.labels = labels;
  for (const Partition partition : {Partition::pooled, Partition::per_class})
    for (const Draw& draw : kDraws) {
      CAPTURE(static_cast<int>(partition));
      CAPTURE(static_cast<int>(draw.resample));
      CAPTURE(draw.share);
      Options options{.p = 2.5, .temperature = 0.5, .partition = partition};
      const double one = fitted(rows.slice(0, 1), options).log_partition()[0];
      options.resample = draw.resample;
      options.share = draw.share;
      const auto draws_of_first = [&](Index count) {
        return std::exp(fitted(rows.slice(0, count), options).log_partition()[0] - one);
      };
      const auto draws_from = [&](Index first) {
        std::vector<double> draws;
        double before = draws_of_first(first);
        for (Index row = first; row < first + 16; ++row) {
          const double now = draws_of_first(row + 1);
          draws.push_back(std::round(now - before));
          CHECK(std::abs(now - before - draws.back()) < 1e-3);
          CHECK(draws.back() >= 0);
          before = now;
        }
        return draws;
      };
      CHECK_FALSE((draws_from(64) == draws_from(kBlockRows + 64)));  // nor do blocks repeat

      std::vector<double> counts;
      for (options.seed = 0; options.seed < kRepeats; ++options.seed)
        counts.push_back(draws_of_first(300));
      const Moments count = moments(counts);
      CHECK(std::abs(count.mean - 300 * draw.share) <= 4 * count.sd / std::sqrt(kRepeats));
      CHECK(std::abs(count.sd / std::sqrt(300 * draw.variance) - 1) <=
            4 / std::sqrt(2.0 * kRepeats));
    }
}
