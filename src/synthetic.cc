#include "ood/synthetic.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include "errors.h"
#include "ood/dataset.h"
#include "ood/kernels.h"
#include "ood/random.h"

namespace ood {

namespace {

constexpr Index kTileRows = 128;    // one thread's work
constexpr Index kBlockRows = 1024;  // rows in memory: a chunk of the file

/// What sets one preset apart. The numbers were chosen by hand, so that features look like those of the network (mean,
/// share of zeros, spread between features) and scores behave as they do on real ones.
struct Preset {
  std::string_view name;
  Index dim, classes;
  Index latent;    // r
  Index families;  // classes of a family have half of their code in common
  Index unseen;    // classes of each set of unseen ones
  double mean;     // of all features
  double spread;   // the largest g_j over the smallest
  double between;  // squared length of a code: variance between classes
  double within;   // sum of w^2
  double logit;
};
constexpr std::array kPresets{
    // means 0.2 to 0.8 as a ResNet-50 has behind its last pooling
    Preset{"imagenet-resnet50", 2048, 1000, 128, 100, 200, 0.45, 4, 0.155, 0.35, 12},
    // three decades of means, as a DenseNet has: most features are nearly dead
    Preset{"cifar100-densenet", 342, 100, 64, 20, 100, 0.14, 1000, 0.36, 0.35, 12},
};
constexpr double kOffset = 1.8;  // zeros: 4 %
constexpr double kNoise = 0.63;  // per feature, beside the latent part

/// How the rows of a split differ from those of the classes that the head knows.
struct SplitRows {
  std::string_view name, kind;
  int classes;      // 0: those of the head, 1 and 2: unseen ones
  double strength;  // q is so many times as large
  double
      flat;  // the within-class part: this share of its variance in equal parts over all directions
  double within;  // and it is so many times as large
  double offset;  // m is so many times as large
  double noise;   // s is so many times as large
};
constexpr std::array kSplitRows{
    SplitRows{"train", "", 0, 1, 0, 1, 1, 1},
    SplitRows{"id_val", "", 0, 1, 0, 1, 1, 1},
    SplitRows{"id_test", "", 0, 1, 0, 1, 1, 1},
    SplitRows{"ood_val/unseen", "", 1, 0.75, 0, 1, 1, 1},
    SplitRows{"ood/unseen", "near", 2, 0.75, 0, 1, 1, 1},
    SplitRows{"ood/spectrum", "far", 2, 0.3, 0.8, 1.3, 1, 1},
    SplitRows{"ood/noise", "far", 0, 0.2, 0, 0.9, 0.9, 1.25},
};

/// Streams of random numbers, for each part of the model and three for each split.
enum Stream : std::uint32_t { kLoadings, kFamilies, kCodes, kScale, kRows = 16 };
enum RowStream : std::uint32_t { kStrength, kLatent, kElements, kRowStreams };

const Preset& find_preset(std::string_view name) {
  const auto found = std::ranges::find(kPresets, name, &Preset::name);
  if (found == kPresets.end())
    throw_invalid("synthetic: preset has {}, expected one of {}", name,
                  fmt::join(synthetic_presets(), ", "));
  return *found;
}

std::size_t find_split(std::string_view name) {
  const auto found = std::ranges::find(kSplitRows, name, &SplitRows::name);
  if (found == kSplitRows.end())
    throw_invalid("synthetic: split has {}, expected one of {}", name,
                  fmt::join(SyntheticData::splits(), ", "));
  return static_cast<std::size_t>(found - kSplitRows.begin());
}

MatrixD normal_matrix(std::uint64_t seed, Stream stream, Index rows, Index cols) {
  MatrixD matrix(rows, cols);
  for (Index i = 0; i < rows; ++i)
    fill_normal(seed, stream, static_cast<std::uint64_t>(i),
                {matrix.row(i).data(), static_cast<std::size_t>(cols)});
  return matrix;
}

/// k^-power for k = 1 .. n, with sum 1.
VectorD decaying(Index n, double power) {
  VectorD spectrum = VectorD::LinSpaced(n, 1, static_cast<double>(n)).array().pow(-power);
  return spectrum / spectrum.sum();
}

SyntheticModel make_model(const Preset& preset, std::uint64_t seed) {
  SyntheticModel model{.name = std::string(preset.name),
                       .dim = preset.dim,
                       .classes = preset.classes,
                       .offset = kOffset,
                       .noise = kNoise,
                       .strength_low = 0.5,
                       .strength_high = 1.5,
                       .logit = preset.logit,
                       .loadings = {},
                       .codes = {},
                       .within = {},
                       .scale = {}};
  model.loadings = normal_matrix(seed, kLoadings, preset.dim, preset.latent).cast<float>();
  model.within = (preset.within * decaying(preset.latent, 1)).cwiseSqrt().cast<float>();

  const Index codes = preset.classes + 2 * preset.unseen;
  const MatrixD families = normal_matrix(seed, kFamilies, preset.families, preset.latent);
  MatrixD own = normal_matrix(seed, kCodes, codes, preset.latent);
  for (Index c = 0; c < codes; ++c) own.row(c) += families.row(c % preset.families);
  own *= decaying(preset.latent, 0.5).cwiseSqrt().asDiagonal();
  own.rowwise().normalize();  // of one length, so that no class is favoured
  model.codes = (std::sqrt(preset.between) * own).cast<float>();

  // evenly over the logarithms, in random order: few strong features carry most of the accuracy
  std::vector<std::pair<double, Index>> order;
  for (Index j = 0; j < preset.dim; ++j)
    order.emplace_back(uniform(seed, kScale, static_cast<std::uint64_t>(j)), j);
  std::ranges::sort(order);
  VectorD scale(preset.dim);
  const auto dim = static_cast<double>(preset.dim);
  for (Index rank = 0; rank < preset.dim; ++rank)
    scale[order[static_cast<std::size_t>(rank)].second] =
        std::pow(preset.spread, (static_cast<double>(rank) + 0.5) / dim);
  const double before = kOffset * kOffset + preset.between + preset.within + kNoise * kNoise;
  scale *= preset.mean / (before * scale.mean());
  model.scale = scale.cast<float>();
  return model;
}

Head make_head(const SyntheticModel& model) {
  const auto mean_of = [&](const auto& code) {
    return model.mean(code.transpose().template cast<double>());
  };
  const VectorD neutral = model.mean(VectorD::Zero(model.codes.cols()));
  MatrixD weight(model.classes, model.dim);
  double logit = 0;
  for (Index c = 0; c < model.classes; ++c) {
    const VectorD contrast = mean_of(model.codes.row(c)) - neutral;
    weight.row(c) = contrast.cwiseQuotient(model.scale.cast<double>());
    logit += weight.row(c).dot(contrast);
  }
  weight *= model.logit * static_cast<double>(model.classes) / logit;
  return {.weight = weight.cast<float>(), .bias = (-weight * neutral).cast<float>()};
}

class SyntheticSource final : public BatchSource {
 public:
  SyntheticSource(const SyntheticData& data, std::string_view split, Index rows, bool logits,
                  const Exec& exec)
      : data_(data),
        rows_of_(kSplitRows[find_split(split)]),
        stream_(kRows + kRowStreams * static_cast<std::uint32_t>(find_split(split))),
        exec_(exec),
        loadings_(data.model().loadings) {
    const SyntheticModel& model = data.model();
    if (rows < 1) throw_invalid("synthetic: {} has {} rows, expected 1 or more", split, rows);
    if (logits) weight_ = kernels::PackedMatrix(data.head().weight);
    info_.name = fmt::format("synthetic {}: /{}", model.name, split);
    info_.rows = rows;
    info_.dim = model.dim;
    info_.classes = model.classes;
    info_.has = {.features = true, .logits = logits, .labels = is_in_distribution(), .head = true};

    const auto r = static_cast<double>(model.within.size());
    const auto variance = model.within.cast<double>().cwiseAbs2().eval();
    within_ = (rows_of_.within *
               ((1 - rows_of_.flat) * variance.array() + rows_of_.flat * variance.sum() / r).sqrt())
                  .cast<float>();
  }

  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return &data_.head(); }

  void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) override {
    Inputs made = wanted;
    made.features =
        wanted.features || (wanted.logits && info_.has.logits);  // logits are made of them
    const Index capacity = std::min(kBlockRows, info_.rows);
    BatchBuffer buffer(info_, made, capacity);
    for (Index begin = 0; begin < info_.rows; begin += capacity) {
      const Index count = std::min(capacity, info_.rows - begin);
      buffer.clear(begin);
      parallel_for((count + kTileRows - 1) / kTileRows, exec_, [&](Index tile) {
        const Index first = tile * kTileRows;
        fill(begin, first, std::min(kTileRows, count - first), made, buffer);
      });
      buffer.set_rows(count);
      visit(buffer.view());
    }
  }

 private:
  bool is_in_distribution() const { return rows_of_.kind.empty() && rows_of_.classes == 0; }

  /// The code of row i, a row of model().codes.
  Index code_of(Index row) const {
    const Index known = data_.model().classes;
    const Index unseen = (data_.model().codes.rows() - known) / 2;
    return rows_of_.classes == 0 ? row % known
                                 : known + (rows_of_.classes - 1) * unseen + row % unseen;
  }

  /// Rows [first, first + count) of the buffer, which begins at row `begin` of the split.
  void fill(Index begin, Index first, Index count, const Inputs& wanted, BatchBuffer& to) const {
    if (wanted.labels && info_.has.labels)
      for (Index i = first; i < first + count; ++i)
        to.labels[static_cast<std::size_t>(i)] = code_of(begin + i);
    if (!wanted.features) return;
    MatrixMap z(to.features.row(first).data(), count, info_.dim);
    Matrix latent(count, within_.size());
    for (Index i = 0; i < count; ++i) fill_latent(begin + first + i, latent.row(i));
    kernels::matmul_nt(latent, loadings_, z);
    for (Index i = 0; i < count; ++i) rectify(begin + first + i, z.row(i));
    if (!wanted.logits || !info_.has.logits) return;
    MatrixMap logits(to.logits.row(first).data(), count, info_.classes);
    kernels::matmul_nt(z, weight_, logits);
    logits.rowwise() += data_.head().bias.transpose();
  }

  void fill_latent(Index row, Eigen::Ref<Eigen::RowVectorXf> h) const {
    const SyntheticModel& model = data_.model();
    const auto item = static_cast<std::uint64_t>(row);
    const double q = model.strength_low + (model.strength_high - model.strength_low) *
                                              uniform(data_.seed(), stream_ + kStrength, item);
    VectorD u(h.size());
    fill_normal(data_.seed(), stream_ + kLatent, item,
                {u.data(), static_cast<std::size_t>(u.size())});
    h = static_cast<float>(q * rows_of_.strength) * model.codes.row(code_of(row));
    h += u.cast<float>().cwiseProduct(within_).transpose();
  }

  /// From V h to the features.
  void rectify(Index row, Eigen::Ref<Eigen::RowVectorXf> z) const {
    const SyntheticModel& model = data_.model();
    // the sum of four uniform bytes: mean 510, variance 4 (256^2 - 1) / 12
    const auto noise = static_cast<float>(model.noise * rows_of_.noise / std::sqrt(21845.0));
    const auto offset = static_cast<float>(model.offset * rows_of_.offset);
    ItemRandom random(data_.seed(), stream_ + kElements, static_cast<std::uint64_t>(row));
    for (Index j = 0; j < z.size(); ++j) {
      const std::uint32_t word = random();
      const std::uint32_t pairs = (word & 0x00FF00FFu) + ((word >> 8) & 0x00FF00FFu);
      const auto sum = static_cast<int>((pairs & 0xFFFFu) + (pairs >> 16)) - 510;
      const float a = std::max(z[j] + offset + noise * static_cast<float>(sum), 0.0f);
      z[j] = model.scale[j] * a * a;
    }
  }

  const SyntheticData& data_;
  const SplitRows& rows_of_;
  std::uint32_t stream_;
  Exec exec_;
  kernels::PackedMatrix loadings_, weight_;
  Vector within_;
  SourceInfo info_;
};

}  // namespace

VectorD SyntheticModel::mean(const VectorD& code) const {
  // of max(a, 0)^2, a normal of mean a0 and variance v: (a0^2 + v) Phi(a0 / s) + a0 s phi(a0 / s)
  VectorD means = loadings.cast<double>() * code;
  const VectorD variance = loadings.cast<double>().cwiseAbs2() * within.cast<double>().cwiseAbs2();
  for (Index j = 0; j < dim; ++j) {
    const double a = means[j] + offset, v = variance[j] + noise * noise, s = std::sqrt(v);
    const double phi = std::exp(-a * a / (2 * v)) / std::sqrt(2 * std::numbers::pi);
    means[j] = static_cast<double>(scale[j]) *
               ((a * a + v) * std::erfc(-a / s / std::numbers::sqrt2) / 2 + a * s * phi);
  }
  return means;
}

std::vector<std::string> synthetic_presets() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) names.emplace_back(preset.name);
  return names;
}

SyntheticData::SyntheticData(std::string_view preset, std::uint64_t seed)
    : model_(make_model(find_preset(preset), seed)), head_(make_head(model_)), seed_(seed) {}

std::vector<std::string> SyntheticData::splits() {
  std::vector<std::string> names;
  for (const SplitRows& split : kSplitRows) names.emplace_back(split.name);
  return names;
}

std::string SyntheticData::kind(std::string_view split) {
  return std::string(kSplitRows[find_split(split)].kind);
}

std::unique_ptr<BatchSource> SyntheticData::source(std::string_view split, Index rows, bool logits,
                                                   const Exec& exec) const {
  return std::make_unique<SyntheticSource>(*this, split, rows, logits, exec);
}

void write_synthetic(const std::filesystem::path& path, const SyntheticData& data,
                     const SyntheticFileOptions& options) {
  const SyntheticModel& model = data.model();
  if (options.rows < model.classes)
    throw_invalid("synthetic: rows has {}, expected at least {}, one for each class of {}",
                  options.rows, model.classes, model.name);
  if (options.test_rows < 1)
    throw_invalid("synthetic: test_rows has {}, expected 1 or more", options.test_rows);
  DatasetWriter writer(path, {.model = "synthetic " + model.name,
                              .id_dataset = "synthetic",
                              .gzip_level = options.gzip_level});
  writer.set_attribute(
      "source", fmt::format("made up: ood synth --preset {} --seed {}", model.name, data.seed()));
  writer.write_head(data.head());
  const auto splits = SyntheticData::splits();
  const Index all = options.rows + options.test_rows * (std::ssize(splits) - 1);
  Index done = 0;
  for (const std::string& split : splits) {
    const auto source = data.source(split, split == "train" ? options.rows : options.test_rows,
                                    options.logits, options.exec);
    source->read(source->info().has, [&](const Batch& batch) {
      writer.append(split, batch, SyntheticData::kind(split));
      done += batch.rows();
      if (options.progress)
        options.progress(split, static_cast<double>(done) / static_cast<double>(all));
    });
  }
  writer.close();
}

}  // namespace ood
