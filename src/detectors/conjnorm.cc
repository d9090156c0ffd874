#include "ood/detectors/conjnorm.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "errors.h"
#include "ood/random.h"
#include "ood/scratch.h"

namespace ood {

namespace {

constexpr std::uint32_t kRowStream = 0x200;

/// Rows and samples that Phi is estimated from while settings are compared.
constexpr Index kGroupRows = 1024, kGroupRowsOfClass = 32, kGroupSamples = 128;

/// Effective samples below which an estimate cannot be trusted: a share of all, and a number.
constexpr double kLeastShare = 0.01, kLeastEffective = 10;

}  // namespace

std::vector<Preset> ConjNorm::presets() const {
  const auto preset = [](const char* name, double p, double t, const char* partition,
                         const char* network) {
    return Preset{name, {{"p", p}, {"temperature", t}, {"partition", partition}}, network};
  };
  return {
      preset("cifar10", 2.2, 0.05, "pooled", "the authors': DenseNet-100, CIFAR-10"),
      preset("cifar100", 2.5, 0.08, "pooled", "the authors': DenseNet-100, CIFAR-100"),
      preset("imagenet-resnet50", 1.5, 0.0005, "per_class", "the authors': ResNet-50, ImageNet"),
      preset("imagenet-mobilenetv2", 1.8, 0.005, "per_class",
             "the authors': MobileNet-v2, ImageNet")};
}

void ConjNorm::set_priors() {
  const auto given = std::ssize(options_.priors);
  const bool wanted = options_.class_prior == ClassPrior::given;
  if (given != (wanted ? classes() : 0))
    throw_invalid("option priors has {} entries, expected {}", given,
                  wanted ? fmt::format("{} as there are classes", classes())
                         : "none unless class_prior is given");
  switch (options_.class_prior) {
    case ClassPrior::uniform:
      log_priors_ = VectorD::Constant(classes(), -std::log(static_cast<double>(classes())));
      return;
    case ClassPrior::empirical:
      log_priors_ =
          Eigen::Map<const Eigen::Matrix<Index, Eigen::Dynamic, 1>>(class_rows_.data(), classes())
              .cast<double>();
      log_priors_ = (log_priors_ / log_priors_.sum()).array().log();
      return;
    case ClassPrior::given:
      log_priors_ = Eigen::Map<const VectorD>(options_.priors.data(), given);
      if (const double sum = log_priors_.sum(); std::abs(sum - 1) > 1e-6)
        throw_invalid("option priors has the sum {}, expected 1", sum);
      log_priors_ = log_priors_.array().log();
  }
}

Diagnostics ConjNorm::found() const {
  const auto column = [](const auto& values) {
    return std::vector<double>(values.begin(), values.end());
  };
  Diagnostics found;
  found.per_class = {{"rows", column(class_rows_)},
                     {"log_phi", column(log_partition_)},
                     {"standard_error", column(standard_error_)},
                     {"effective_samples", column(effective_samples_)}};
  if (options_.partition != Partition::importance) return found;
  const std::string proposal(kProposals[static_cast<std::size_t>(proposal_used_)]);
  found.values = {{"proposal", proposal}, {"samples", options_.samples}};
  const auto samples = static_cast<double>(options_.samples);
  const double least = std::max(kLeastShare * samples, std::min(kLeastEffective, samples / 2));
  // counted so that NaN, which is no number of samples, is bad too
  const auto good = (effective_samples_.array() >= least).count();
  if (good < classes())
    found.warnings.push_back(
        fmt::format("log Phi rests on fewer than {:.4g} effective samples of {} ({}) in {} of {} "
                    "classes, the fewest {:.1f}: it cannot be trusted",
                    least, options_.samples, proposal, classes() - good, classes(),
                    effective_samples_.minCoeff()));
  return found;
}

ConjNorm::RowTerms::RowTerms(std::span<const ConjNorm* const> models,
                             kernels::Precision precision) {
  classes_ = models.front()->classes();
  std::vector<const ConjNorm*> geometries;
  for (const ConjNorm* model : models) {
    const auto same = std::ranges::find_if(geometries, [&](const ConjNorm* other) {
      return other->options_.p == model->options_.p &&
             other->options_.gradient == model->options_.gradient;
    });
    members_.push_back({same - geometries.begin(), model->options_.temperature});
    if (same == geometries.end()) geometries.push_back(model);
  }
  Matrix gradients(std::ssize(geometries) * classes_, models.front()->gradients_.cols());
  for (Index g = 0; g < std::ssize(geometries); ++g) {
    const ConjNorm& model = *geometries[static_cast<std::size_t>(g)];
    orders_.push_back(model.options_.p);
    orders_.push_back(model.q());
    gradients.middleRows(g * classes_, classes_) = model.gradients_;
  }
  packed_gradients_ = kernels::PackedMatrix(gradients, precision);
}

MatrixView ConjNorm::RowTerms::select(std::size_t model, Buffers& buffers) const {
  const Member& member = members_[model];
  const Index rows = buffers.norms.rows();
  kernels::norm_terms(buffers.norms, 2 * member.geometry, member.temperature, buffers.scale,
                      buffers.shift);
  return {buffers.dots.data() + member.geometry * classes_, rows, classes_, buffers.dots.cols()};
}

ConjNorm::PartitionSums::PartitionSums(std::span<const ConjNorm* const> models)
    : models_(models.begin(), models.end()),
      terms_(std::make_shared<const RowTerms>(models)),
      sums_(models.size(), LogSumExp(models.front()->classes())),
      drawn_(per_class() ? static_cast<std::size_t>(models.front()->classes()) : 1, 0) {}

Index ConjNorm::PartitionSums::draws(Index row) const {
  const auto seed = static_cast<std::uint64_t>(options().seed);
  const auto item = static_cast<std::uint64_t>(row);
  if (options().resample == Resample::none)
    return options().share == 1 || uniform(seed, kRowStream, item) < options().share ? 1 : 0;
  ItemRandom random(seed, kRowStream, item);
  return std::poisson_distribution<Index>(options().share)(random);
}

void ConjNorm::PartitionSums::add(const Batch& batch) {
  const bool all = options().resample == Resample::none && options().share == 1;
  thread_local Matrix drawn_rows;
  thread_local std::vector<std::int64_t> drawn_labels;
  for (Index first = 0; first < batch.rows(); first += kernels::kTileRows) {
    const Batch tile = batch.slice(first, std::min(kernels::kTileRows, batch.rows() - first));
    const Labels labels = per_class() ? *tile.labels : Labels();
    if (all) {
      add_rows(*tile.features, labels);
      continue;
    }
    std::vector<Index> drawn;  // rows of the tile, each as often as it was drawn
    for (Index i = 0; i < tile.rows(); ++i)
      drawn.insert(drawn.end(), static_cast<std::size_t>(draws(tile.first_row + i)), i);
    if (drawn.empty()) continue;
    drawn_rows.resize(std::ssize(drawn), tile.features->cols());
    drawn_labels.clear();
    for (Index i = 0; i < std::ssize(drawn); ++i) {
      const Index row = drawn[static_cast<std::size_t>(i)];
      drawn_rows.row(i) = tile.features->row(row);
      if (per_class()) drawn_labels.push_back(labels[static_cast<std::size_t>(row)]);
    }
    add_rows(drawn_rows, drawn_labels);
  }
}

void ConjNorm::PartitionSums::add_rows(const MatrixView& x, Labels labels) {
  const bool pooled = !per_class();
  Scratch scratch;
  RowTerms::Buffers buffers = terms_->compute(x, pooled, scratch);
  // <x_i, g_k> for the class k of row i alone
  std::pmr::vector<float> own(static_cast<std::size_t>(x.rows()), &scratch);
  for (std::size_t m = 0; m < models_.size(); ++m) {
    const MatrixView dots = terms_->select(m, buffers);
    if (pooled) {
      sums_[m].add_columns(dots, buffers.scale, buffers.shift);
      continue;
    }
    kernels::row_dot_selected(x, models_[m]->gradients_, labels, own);
    for (std::size_t i = 0; i < own.size(); ++i)
      sums_[m].add(labels[i], static_cast<double>(buffers.scale[i]) * own[i] + buffers.shift[i]);
  }
  if (pooled)
    drawn_[0] += x.rows();
  else
    for (const std::int64_t label : labels) ++drawn_[static_cast<std::size_t>(label)];
}

void ConjNorm::PartitionSums::merge(const PartitionSums& other) {
  for (std::size_t m = 0; m < sums_.size(); ++m) sums_[m].merge(other.sums_[m]);
  for (std::size_t c = 0; c < drawn_.size(); ++c) drawn_[c] += other.drawn_[c];
}

void ConjNorm::PartitionSums::visit(FieldVisitor& v) {
  for (LogSumExp& sums : sums_) sums.visit(v);
  v.state("drawn", drawn_);
}

PartitionEstimate ConjNorm::PartitionSums::estimate(std::size_t model) const {
  for (std::size_t c = 0; c < drawn_.size(); ++c)
    if (drawn_[c] == 0)
      throw std::domain_error(
          fmt::format("a share of {} draws 0 rows{}, expected 1 or more", options().share,
                      per_class() ? fmt::format(" of class {}", c) : std::string()));
  const LogSumExp& sums = sums_[model];
  const ConjNorm& of = *models_[model];
  PartitionEstimate estimate;
  estimate.log_partition = sums.values() - of.half_squares_ / of.options_.temperature;
  estimate.effective_samples = sums.effective_terms();
  VectorD counts(sums.columns());
  for (Index k = 0; k < sums.columns(); ++k)
    counts[k] = static_cast<double>(drawn_[per_class() ? static_cast<std::size_t>(k) : 0]);
  estimate.standard_error = sums.standard_error(counts);
  estimate.proposal = of.options_.proposal;
  return estimate;
}

void ConjNorm::prepare() {
  const Index c = classes();
  for (const VectorD* field :
       {&half_squares_, &log_priors_, &log_partition_, &standard_error_, &effective_samples_})
    if (c < 1 || field->size() != c || std::ssize(class_rows_) != c)
      throw std::invalid_argument("the fields of the state disagree in the number of classes");
  if (const auto used = static_cast<std::size_t>(proposal_used_); used >= kProposals.size())
    throw_invalid("proposal_used has {}, expected [0, {})", used, kProposals.size());
  const std::array<const ConjNorm*, 1> models = {this};
  terms_ = RowTerms(models, precision());
  set_offsets();
}

void ConjNorm::set_offsets() {
  offsets_.resize(static_cast<std::size_t>(classes()));
  for (Index k = 0; k < classes(); ++k)
    offsets_[static_cast<std::size_t>(k)] = static_cast<float>(
        -half_squares_[k] / options_.temperature - log_partition_[k] + log_priors_[k]);
}

/// Settings that differ in p, temperature and gradient alone, on the same rows.
class ConjNorm::Group {
 public:
  /// few_rows: Phi may be estimated from fewer rows than the options say.
  Group(const ConjNorm& model, bool few_rows) : models_{model}, few_rows_(few_rows) {}

  /// Takes a model in, or says that it is of another group.
  bool add(const ConjNorm& model, bool few_rows) {
    Options alike = model.options_;
    const Options& own = models_.front().options_;
    alike.p = own.p;
    alike.temperature = own.temperature;
    alike.gradient = own.gradient;
    const bool same =
        alike == own && model.precision() == models_.front().precision() && few_rows == few_rows_;
    if (same) models_.push_back(model);
    return same;
  }

  std::size_t size() const { return models_.size(); }
  const ConjNorm& model(std::size_t m) const { return models_[m]; }

  void fit(BatchSource& source, const Exec& exec) {
    const SourceInfo& info = source.info();
    models_.front().check_source(info);
    const auto totals = reduce(source, ClassMeans(info.classes, info.dim), exec);
    std::vector<const ConjNorm*> models;
    for (ConjNorm& model : models_) {
      const MatrixD means = model.set_means(totals);
      if (few_rows_) model.options_.share = enough_rows(totals.counts());
      if (!model.sums_rows()) model.set_closed_partition(means, exec);
      models.push_back(&model);
    }
    terms_ = RowTerms(models, models_.front().precision());
    if (models_.front().sums_rows()) {
      const auto sums = reduce(source, PartitionSums(models), exec);
      for (std::size_t m = 0; m < models_.size(); ++m) models_[m].set_partition(sums.estimate(m));
    }
    for (ConjNorm& model : models_) {
      model.set_offsets();
      model.set_fitted(info);
    }
  }

  /// Writes the scores of a tile into columns [column, column + size()) of out, from row `begin`.
  void score_tile(const MatrixView& x, MatrixD& out, Index begin, Index column) const {
    Scratch scratch;
    RowTerms::Buffers buffers = terms_.compute(x, true, scratch);
    std::pmr::vector<float> scores(static_cast<std::size_t>(x.rows()), &scratch);
    for (std::size_t m = 0; m < models_.size(); ++m) {
      models_[m].score_rows(terms_.select(m, buffers), buffers, scores);
      for (Index i = 0; i < x.rows(); ++i)
        out(begin + i, column + static_cast<Index>(m)) = scores[static_cast<std::size_t>(i)];
    }
  }

 private:
  /// The share of rows that Phi is estimated from.
  double enough_rows(const std::vector<Index>& counts) const {
    const bool pooled = models_.front().options_.partition == Partition::pooled;
    const Index rows =
        pooled ? std::accumulate(counts.begin(), counts.end(), Index{0}) : std::ranges::min(counts);
    return std::min(1.0, static_cast<double>(pooled ? kGroupRows : kGroupRowsOfClass) /
                             static_cast<double>(rows));
  }

  std::vector<ConjNorm> models_;
  bool few_rows_;
  RowTerms terms_;
};

class ConjNorm::Groups final : public Candidates {
 public:
  Groups(const ConjNorm& detector, std::span<const OptionMap> settings, Quantity quantity)
      : density_(quantity == Quantity::log_likelihood) {
    for (const OptionMap& setting : settings) {
      if (density_ && setting.contains("partition"))
        throw_invalid("conjnorm: a log-likelihood has partition importance, expected no others");
      ConjNorm model = detector;
      model.set_options(setting);
      Options& options = model.options_;
      if (density_) options.partition = Partition::importance;
      if (options.partition == Partition::importance)
        with_context("conjnorm", [&] { require_valid(model.importance_options()); });
      // what nobody asked for may be less exact
      const Options defaults;
      if (!setting.contains("samples") && options.samples == defaults.samples)
        options.samples = kGroupSamples;
      if (!setting.contains("proposal") && options.proposal == defaults.proposal)
        options.proposal = Proposal::matched;  // which it would choose nearly always
      const bool few_rows = !setting.contains("share") && options.share == defaults.share;
      const auto group =
          std::ranges::find_if(groups_, [&](Group& known) { return known.add(model, few_rows); });
      places_.emplace_back(group - groups_.begin(), group == groups_.end() ? 0 : group->size() - 1);
      if (group == groups_.end()) groups_.emplace_back(model, few_rows);
    }
  }

  void fit(BatchSource& source, const Exec& exec) override {
    with_context("conjnorm.fit", [&] {
      for (Group& group : groups_) group.fit(source, exec);
    });
  }

  void score(const Batch& batch, MatrixD& out, const Exec& exec) const override {
    with_context("conjnorm.score", [&] {
      for (const Group& group : groups_) group.model(0).check_batch(batch);
    });
    const MatrixView& x = *batch.features;
    const Index rows = x.rows();
    out.resize(rows, std::ssize(places_));
    if (rows == 0) return;
    MatrixD grouped(rows, std::ssize(places_));  // columns in the order of the groups
    std::vector<Index> first_columns = {0};
    for (const Group& group : groups_)
      first_columns.push_back(first_columns.back() + static_cast<Index>(group.size()));
    parallel_for((rows + kernels::kTileRows - 1) / kernels::kTileRows, exec, [&](Index tile) {
      const Index begin = tile * kernels::kTileRows;
      const MatrixView part = x.middle_rows(begin, std::min(kernels::kTileRows, rows - begin));
      for (std::size_t g = 0; g < groups_.size(); ++g)
        groups_[g].score_tile(part, grouped, begin, first_columns[g]);
    });
    for (Index s = 0; s < out.cols(); ++s) {
      const auto [group, member] = places_[static_cast<std::size_t>(s)];
      out.col(s) = grouped.col(first_columns[group] + static_cast<Index>(member));
    }
    if (density_) add_measure(x, out);
  }

  Diagnostics diagnostics(Index setting) const override { return model(setting).diagnostics(); }

 private:
  const ConjNorm& model(Index setting) const {
    const auto [group, member] = places_[static_cast<std::size_t>(setting)];
    return groups_[group].model(member);
  }

  /// Adds D log(|x|_2 / |x|_p), see candidates(); a row of zeros has no direction.
  void add_measure(const MatrixView& x, MatrixD& out) const {
    std::vector<double> orders = {2};
    for (Index s = 0; s < out.cols(); ++s) orders.push_back(model(s).options_.p);
    Matrix norms;
    kernels::row_norms(x, orders, norms);
    for (Index i = 0; i < x.rows(); ++i)
      for (Index s = 0; s < out.cols() && norms(i, 0) > 0; ++s)
        out(i, s) += static_cast<double>(x.cols()) *
                     std::log(static_cast<double>(norms(i, 0)) / norms(i, s + 1));
  }

  bool density_;
  std::vector<Group> groups_;
  std::vector<std::pair<std::size_t, std::size_t>> places_;  // group and member of each setting
};

std::unique_ptr<Candidates> ConjNorm::candidates(std::span<const OptionMap> settings,
                                                 Quantity quantity) const {
  return std::make_unique<Groups>(*this, settings, quantity);
}

}  // namespace ood
