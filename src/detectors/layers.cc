#include "ood/detectors/layers.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "errors.h"
#include "ood/stream.h"

namespace ood {

namespace {

std::vector<std::string> names_of(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ","));
}

/// A source whose features are a layer of another one.
class LayerSource final : public BatchSource {
 public:
  LayerSource(BatchSource& source, const std::string& layer, const Exec& exec)
      : source_(source), layer_(layer), exec_(exec), info_(source.info()) {
    info_.name += "/layers/" + layer;
    info_.dim = info_.layers.at(layer);
    info_.has = {
        .features = true, .logits = available(source.info()).logits, .labels = info_.has.labels};
    info_.layers.clear();
  }

  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return nullptr; }
  Partitions* partitions() override { return source_.partitions(); }
  void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) override {
    Inputs stored = wanted;
    stored.features = false;
    stored.layers = true;
    stream(source_, stored, exec_, [&](const Batch& batch) {  // errors name the layer
      Batch part = batch;
      part.features = batch.layers.at(layer_);
      part.layers.clear();
      visit(part);
    });
  }

 private:
  BatchSource& source_;
  std::string layer_;
  Exec exec_;
  SourceInfo info_;
};

/// What a detector reads, with the layers in place of the features.
Inputs of_layers(Inputs inputs) {
  inputs.layers = inputs.features;
  inputs.features = false;
  return inputs;
}

/// The detector that is put on each layer.
Member prototype_of(const std::string& text) {
  try {
    Member member(text);
    const Needs needs = member->needs();
    const Inputs other =
        needs.fit.with(needs.score).without({.features = true, .logits = true, .labels = true});
    if (!needs.score.features || other.any())
      throw_invalid("it needs {}", fmt::join(needs.fit.with(needs.score).names(), ", "));
    return member;
  } catch (const std::invalid_argument& error) {
    throw_invalid(
        "{}: option detector has {}, expected one that reads features, and of the rest at most "
        "logits and labels: {}",
        Layers::kName, text, error.what());
  }
}

void require_layers(const SourceInfo& info, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (!info.layers.contains(name)) {
      std::vector<std::string> known;
      for (const auto& layer : info.layers) known.push_back(layer.first);
      throw_invalid("{} has no layer {}, expected one of {}", info.name, name,
                    fmt::join(known, ", "));
    }
}

}  // namespace

Needs Layers::needs() const {
  const Needs own = prototype_->needs();
  Needs needs{.fit = of_layers(own.fit.with(own.score)),
              .score = of_layers(own.score),
              .split = own.split,
              .outliers = of_layers(own.outliers)};
  if (options_.rule == CombinationRule::learned) needs.outliers = needs.outliers.with(needs.score);
  needs.calibrates = true;
  return needs;
}

void Layers::visit(FieldVisitor& v) {
  v.option("detector", options_.detector, "of each layer; options in parentheses");
  v.option("layers", options_.layers, "names joined by commas; empty: all");
  v.option("rule", options_.rule, kCombinationRules, "how scores become one");
  if (made_of_ != options_.detector) {
    prototype_ = prototype_of(options_.detector);
    made_of_ = options_.detector;
  }
  v.state("fitted_layers", fitted_layers_);
  v.state("widths", widths_);
  if (joined(names_) != fitted_layers_) {  // being loaded
    names_ = names_of(fitted_layers_);
    constexpr std::size_t kMostLayers = 4096;
    if (names_.size() != widths_.size() || names_.size() > kMostLayers)
      throw_invalid("fitted_layers has {} names, expected {} as widths has entries, at most {}",
                    names_.size(), widths_.size(), kMostLayers);
    combined_.members.assign(names_.size(), prototype_);
  }
  combined_.visit(v);
}

Batch Layers::layer_of(const Batch& batch, std::size_t layer) const {
  const auto found = batch.layers.find(names_[layer]);
  if (found == batch.layers.end())
    throw_invalid("batch has no layer {}, expected {}", names_[layer], fitted_layers_);
  if (found->second.cols() != widths_[layer])
    throw_invalid("layers/{} has {} columns, expected {}", names_[layer], found->second.cols(),
                  widths_[layer]);
  Batch part;  // copying the layers would allocate
  part.features = found->second;
  part.logits = batch.logits;
  part.labels = batch.labels;
  part.copy_features = batch.copy_features;
  part.copy_logits = batch.copy_logits;
  part.first_row = batch.first_row;
  return part;
}

void Layers::fit_data(const FitData& data, const Exec& exec) {
  const SourceInfo& info = data.in_distribution(needs().split).info();
  check_source(info);
  names_ = names_of(options_.layers);
  if (options_.layers.empty()) {
    names_.clear();
    for (const auto& layer : info.layers) names_.push_back(layer.first);
  }
  fitted_layers_ = joined(names_);
  require_layers(info, names_);
  widths_.clear();
  combined_.members.assign(names_.size(), prototype_);
  for (std::size_t l = 0; l < names_.size(); ++l) {
    widths_.push_back(info.layers.at(names_[l]));
    std::vector<std::unique_ptr<LayerSource>> owned;
    const auto layer_source = [&](BatchSource* source) -> BatchSource* {
      if (source == nullptr) return nullptr;
      require_layers(source->info(), {names_[l]});
      owned.push_back(std::make_unique<LayerSource>(*source, names_[l], exec));
      return owned.back().get();
    };
    const auto has_layers = [](const BatchSource* source) {
      return source != nullptr && source->info().has.layers;
    };
    FitData own;
    own.train = has_layers(data.train) ? layer_source(data.train) : nullptr;
    own.id_val = has_layers(data.id_val) ? layer_source(data.id_val) : nullptr;
    for (const auto& set : data.ood_val)
      if (has_layers(set.second)) own.ood_val.emplace_back(set.first, layer_source(set.second));
    combined_.members[l]->fit(own, exec);
  }
  combined_.calibrate(
      options_.rule, names_,
      [this](const Batch& batch, std::size_t layer) { return layer_of(batch, layer); }, data,
      needs().score, exec);
  set_fitted(info);
}

void Layers::prepare() {
  if (widths_.size() != names_.size())
    throw_invalid("widths has {} entries, expected {}", widths_.size(), names_.size());
  combined_.prepare();
}

void Layers::score_tile(const Batch& tile, std::span<float> out) const {
  combined_.score([this](const Batch& batch, std::size_t layer) { return layer_of(batch, layer); },
                  tile, out);
}

Diagnostics Layers::found() const { return combined_.found(names_); }

}  // namespace ood
