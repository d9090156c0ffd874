#include "ood/detectors/weiper.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "errors.h"
#include "ood/random.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

namespace {

constexpr std::uint32_t kNoiseStream = 0x410;
constexpr Index kBlockWeights = 1024;  // rows in one product with a tile, or those of one copy
constexpr double kFeatureEpsilon = 0.01, kLogitEpsilon = 0.025;

}  // namespace

/// The least and the largest entries.
class Weiper::Ranges {
 public:
  struct Range {
    double least = std::numeric_limits<double>::infinity();
    double most = -std::numeric_limits<double>::infinity();

    void add(const MatrixView& x) {
      least = std::min(least, static_cast<double>(x.minCoeff()));
      most = std::max(most, static_cast<double>(x.maxCoeff()));
    }
    void merge(const Range& other) {
      least = std::min(least, other.least);
      most = std::max(most, other.most);
    }
    /// The ends of the bins after n rows.
    void set_ends(Bins& bins, Index rows, const char* what) const {
      const double gap = (most - least) / static_cast<double>(rows);
      if (!(gap > 0) || !std::isfinite(gap))
        throw std::domain_error(fmt::format(
            "{} range from {} to {}, expected finite numbers that vary", what, least, most));
      bins.least = least - gap;
      bins.most = most + gap;
    }
  };

  Ranges() = default;
  explicit Ranges(const Weiper* weiper) : weiper_(weiper) {}
  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    for (Index begin = 0; begin < batch.rows(); begin += kernels::kTileRows) {
      const MatrixView z =
          batch.features->middle_rows(begin, std::min(kernels::kTileRows, batch.rows() - begin));
      features.add(z);
      weiper_->for_each_logits(z, [this](const MatrixView& a) { logits.add(a); });
    }
  }
  void merge(const Ranges& other) {
    features.merge(other.features);
    logits.merge(other.logits);
  }
  void visit(FieldVisitor& v) {
    v.state("least_feature", features.least);
    v.state("most_feature", features.most);
    v.state("least_logit", logits.least);
    v.state("most_logit", logits.most);
  }

  Range features, logits;

 private:
  const Weiper* weiper_ = nullptr;
};

/// How many entries of all rows are in each bin.
class Weiper::Histograms {
 public:
  Histograms() = default;
  explicit Histograms(const Weiper* weiper)
      : features(VectorD::Zero(weiper->options_.bins)),
        logits(VectorD::Zero(weiper->options_.bins)),
        weiper_(weiper) {}
  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    for (Index begin = 0; begin < batch.rows(); begin += kernels::kTileRows) {
      const MatrixView z =
          batch.features->middle_rows(begin, std::min(kernels::kTileRows, batch.rows() - begin));
      add(z, weiper_->features_, features);
      weiper_->for_each_logits(z,
                               [this](const MatrixView& a) { add(a, weiper_->logits_, logits); });
    }
  }
  void merge(const Histograms& other) {
    features += other.features;
    logits += other.logits;
  }
  void visit(FieldVisitor& v) {
    v.state("features", features);
    v.state("logits", logits);
  }

  VectorD features, logits;

 private:
  static void add(const MatrixView& x, const Bins& bins, VectorD& sums) {
    Vector counts = Vector::Zero(sums.size());  // exact: a tile has less than 2^24 entries
    for (Index i = 0; i < x.rows(); ++i) bins.count(x.row_data(i), x.cols(), counts.data());
    sums += counts.cast<double>();
  }
  const Weiper* weiper_ = nullptr;
};

std::vector<Preset> Weiper::presets() const {
  const auto setting = [](double delta, double lambda1, double lambda2, Index window1,
                          Index window2) {
    return OptionMap{{"delta", delta},
                     {"lambda1", lambda1},
                     {"lambda2", lambda2},
                     {"window1", window1},
                     {"window2", window2}};
  };
  std::vector<Preset> all = {
      {"cifar10", setting(1.8, 2.5, 0.1, 4, 15), "the paper's for CIFAR-10: the default"},
      {"cifar100", setting(2.4, 0.1, 1.0, 4, 40), "the paper's for CIFAR-100"},
      {"imagenet-resnet50", setting(2.4, 2.5, 0.25, 40, 15), "the paper's for ResNet-50"},
      {"imagenet-vit", setting(2.0, 2.5, 0.1, 40, 15), "the paper's for ViT-B/16"}};
  all.back().options["bins"] = Index{80};
  return all;
}

void Weiper::visit(FieldVisitor& v) {
  const Range weight{.min = 0, .max = 1e6};
  v.option("copies", options_.copies, Range{.min = 1, .max = 1e4},
           "perturbed copies of the last layer");
  v.option("delta", options_.delta, Range{.min = 0, .max = 1e6, .open_min = true},
           "length of a perturbation, relative to the weights of its class");
  v.option("lambda1", options_.lambda1, weight, "weight of the logits' divergence");
  v.option("lambda2", options_.lambda2, weight, "weight of the mean largest probability");
  v.option("window1", options_.window1, Range{.min = 1, .max = 1e5},
           "bins that smooth the features");
  v.option("window2", options_.window2, Range{.min = 1, .max = 1e5}, "bins that smooth the logits");
  v.option("bins", options_.bins, Range::at_least(2), "of the histograms");
  v.option("seed", options_.seed, Range::at_least(0), "of the perturbations");
  head_.visit(v);
  features_.visit(v, "feature_");
  logits_.visit(v, "logit_");
}

void Weiper::Bins::visit(FieldVisitor& v, const std::string& prefix) {
  v.state(prefix + "least", least);
  v.state(prefix + "most", most);
  v.state(prefix + "mean", mean);
}

void Weiper::Bins::count(const float* row, Index entries, float* counts) const {
  const auto bins = static_cast<double>(mean.size()), per_unit = bins / (most - least);
  for (Index j = 0; j < entries; ++j) {
    const double place = (static_cast<double>(row[j]) - least) * per_unit;
    if (place >= 0 && place < bins) ++counts[static_cast<Index>(place)];
  }
}

double Weiper::Bins::divergence(const float* counts, Index entries, Index window,
                                double epsilon) const {
  const Index bins = mean.size(), left = (window - 1) / 2;
  const auto at = [&](Index k) {
    return static_cast<double>(counts[std::clamp(k, Index{0}, bins - 1)]);
  };
  const double mean_sum = mean.sum() + static_cast<double>(bins) * epsilon;
  const double share = 1 / (static_cast<double>(window) * static_cast<double>(entries));
  Scratch scratch;
  std::pmr::vector<double> smooth(static_cast<std::size_t>(bins), &scratch);
  double sum = 0, inside = 0;  // counts are whole numbers: a running sum stays exact
  for (Index k = -left; k < window - left; ++k) inside += at(k);
  for (Index k = 0; k < bins; ++k) {
    sum += smooth[static_cast<std::size_t>(k)] = inside * share + epsilon;
    inside += at(k + window - left) - at(k - left);
  }
  double divergence = 0;
  for (Index k = 0; k < bins; ++k) {
    const double p = (mean[k] + epsilon) / mean_sum, q = smooth[static_cast<std::size_t>(k)] / sum;
    divergence += (p - q) * std::log(p / q);
  }
  return divergence;
}

void Weiper::fit_state(BatchSource& source, const Exec& exec) {
  const Index rows = source.info().rows;
  head_.fit(*source.head());
  perturb_weights(kernels::Precision::float32);
  const Ranges ranges = reduce(source, Ranges(this), exec);
  ranges.features.set_ends(features_, rows, "features");
  ranges.logits.set_ends(logits_, rows, "logits of perturbed weights");
  features_.mean = logits_.mean = VectorD::Zero(options_.bins);
  const Histograms histograms = reduce(source, Histograms(this), exec);
  const auto entries = static_cast<double>(rows) * static_cast<double>(head_.weight().cols());
  features_.mean = histograms.features / entries;
  const auto copies = static_cast<double>(options_.copies * head_.classes());
  logits_.mean = histograms.logits / (static_cast<double>(rows) * copies);
}

void Weiper::prepare() {
  if (head_.classes() < 1 || head_.bias().size() != head_.classes() ||
      features_.mean.size() != options_.bins || logits_.mean.size() != options_.bins)
    throw_invalid(
        "shapes of head_weight [{}, {}], head_bias [{}], feature_mean [{}] and logit_mean [{}] "
        "disagree, or not with bins = {}",
        head_.classes(), head_.weight().cols(), head_.bias().size(), features_.mean.size(),
        logits_.mean.size(), options_.bins);
  perturb_weights(precision());
}

void Weiper::perturb_weights(kernels::Precision packed) {
  constexpr Index kMostWeights = Index{1} << 30;  // they are drawn, no file holds them
  const Index classes = head_.classes(), dim = head_.weight().cols();
  if (options_.copies > kMostWeights / std::max<Index>(head_.weight().size(), 1))
    throw_invalid("option copies has {}, expected at most {} for a head of {} weights",
                  options_.copies, kMostWeights / head_.weight().size(), head_.weight().size());
  const Index together = std::max<Index>(1, kBlockWeights / classes);
  const auto seed = static_cast<std::uint64_t>(options_.seed);
  VectorD noise(dim);
  blocks_.clear();
  for (Index first = 0; first < options_.copies; first += together) {
    const Index count = std::min(together, options_.copies - first);
    Matrix weight(count * classes, dim);
    for (Index i = 0; i < weight.rows(); ++i) {
      const VectorD own = head_.weight().row(i % classes).cast<double>();
      fill_normal(seed, kNoiseStream, static_cast<std::uint64_t>(first * classes + i),
                  {noise.data(), static_cast<std::size_t>(dim)});
      weight.row(i) =
          (own + options_.delta * own.norm() / noise.norm() * noise).transpose().cast<float>();
    }
    blocks_.push_back({kernels::PackedMatrix(weight, packed), head_.bias().replicate(count, 1)});
  }
}

template <class Visit>
void Weiper::for_each_logits(const MatrixView& z, const Visit& visit) const {
  for (const Block& block : blocks_) {
    Scratch scratch;
    MatrixMap a = scratch.matrix(z.rows(), block.weight.rows());
    kernels::matmul_nt(z, block.weight, a);
    a.rowwise() += block.bias.transpose();
    visit(a);
  }
}

void Weiper::score_tile(const Batch& tile, std::span<float> out) const {
  const MatrixView& z = *tile.features;
  const Index classes = head_.classes();
  Scratch scratch;
  MatrixMap of_features = scratch.matrix(z.rows(), options_.bins);
  MatrixMap of_logits = scratch.matrix(z.rows(), options_.bins);
  std::pmr::vector<float> log_confidence(out.size(), &scratch);
  VectorDMap confidence = scratch.vector_d(z.rows());
  of_features.setZero();
  of_logits.setZero();
  confidence.setZero();
  for_each_logits(z, [&](const MatrixView& a) {
    for (Index i = 0; i < z.rows(); ++i)
      logits_.count(a.row_data(i), a.cols(), of_logits.row(i).data());
    for (Index first = 0; first < a.cols(); first += classes) {
      const MatrixView copy(a.data() + first, a.rows(), classes, a.outerStride());
      kernels::row_log_max_probability(copy, 1.0f, log_confidence);
      for (Index i = 0; i < z.rows(); ++i)  // NaN where the row is not finite
        confidence[i] += std::exp(static_cast<double>(log_confidence[static_cast<std::size_t>(i)]));
    }
  });
  const Index entries = options_.copies * classes;
  for (Index i = 0; i < z.rows(); ++i) {
    features_.count(z.row_data(i), z.cols(), of_features.row(i).data());
    const double k1 = features_.divergence(of_features.row(i).data(), z.cols(), options_.window1,
                                           kFeatureEpsilon);
    const double k2 =
        logits_.divergence(of_logits.row(i).data(), entries, options_.window2, kLogitEpsilon);
    out[static_cast<std::size_t>(i)] =
        static_cast<float>(-k1 - options_.lambda1 * k2 +
                           options_.lambda2 * confidence[i] / static_cast<double>(options_.copies));
  }
}

}  // namespace ood
