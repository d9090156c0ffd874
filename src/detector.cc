#include "ood/detector.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>

#include "errors.h"
#include "ood/kernels.h"
#include "ood/stream.h"

namespace ood {

namespace {

/// Lists options as they stand.
class ListOptions : public FieldVisitor {
 public:
  std::vector<OptionInfo> options;

  void option(std::string_view name, bool& value, std::string_view help) override {
    add(name, value, "true or false", help, {false, true});
  }
  void option(std::string_view name, Index& value, const Range& range,
              std::string_view help) override {
    add(name, value, "a whole number, " + range.text(), help);
    for (const double swept : range.sweep)
      options.back().sweep.emplace_back(static_cast<Index>(swept));
  }
  void option(std::string_view name, double& value, const Range& range,
              std::string_view help) override {
    add(name, value, "a number, " + range.text(), help,
        std::vector<OptionValue>(range.sweep.begin(), range.sweep.end()));
  }
  void option(std::string_view name, std::vector<double>& value, const Range& range,
              std::string_view help) override {
    add(name, value, "numbers joined by commas, each " + range.text(), help);
  }
  void option(std::string_view name, std::string& value, std::string_view help) override {
    add(name, value, "text", help);
  }
  void option_choice(std::string_view name, Index& chosen, std::span<const std::string_view> names,
                     std::string_view help) override {
    std::vector<OptionValue> sweep;
    for (const std::string_view choice : names) sweep.emplace_back(std::string(choice));
    add(name, std::string(names[static_cast<std::size_t>(chosen)]),
        fmt::format("one of {}", fmt::join(names, ", ")), help, std::move(sweep));
  }

 private:
  void add(std::string_view name, OptionValue value, std::string expected, std::string_view help,
           std::vector<OptionValue> sweep = {}) {
    options.push_back({std::string(name), std::move(value), std::move(expected), std::string(help),
                       std::move(sweep)});
  }
};

/// Checks options against their ranges.
class CheckOptions : public FieldVisitor {
 public:
  explicit CheckOptions(std::string_view detector) : detector_(detector) {}

  void option(std::string_view name, Index& value, const Range& range, std::string_view) override {
    if (!range.contains(static_cast<double>(value)))
      fail(name, value, "a whole number, " + range.text());
  }
  void option(std::string_view name, double& value, const Range& range, std::string_view) override {
    if (!range.contains(value)) fail(name, value, "a number, " + range.text());
  }
  void option(std::string_view name, std::vector<double>& values, const Range& range,
              std::string_view) override {
    for (const double value : values)
      if (!range.contains(value)) fail(name, value, "numbers, each " + range.text());
  }
  void option_choice(std::string_view name, Index& chosen, std::span<const std::string_view> names,
                     std::string_view) override {
    if (chosen < 0 || chosen >= std::ssize(names))
      fail(name, chosen, fmt::format("one of {}", fmt::join(names, ", ")));
  }

 private:
  template <class T>
  void fail(std::string_view name, const T& got, const std::string& expected) {
    throw_invalid("{}: option {} has {}, expected {}", detector_, name, got, expected);
  }
  std::string_view detector_;
};

template <class Number>
std::optional<Number> parse(const std::string& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<double> as_double(const OptionValue& value) {
  if (const auto* d = std::get_if<double>(&value)) return *d;
  if (const auto* i = std::get_if<Index>(&value)) return static_cast<double>(*i);
  if (const auto* s = std::get_if<std::string>(&value)) return parse<double>(*s);
  return std::nullopt;
}

std::optional<Index> as_index(const OptionValue& value) {
  if (const auto* i = std::get_if<Index>(&value)) return *i;
  if (const auto* d = std::get_if<double>(&value))
    return std::floor(*d) == *d && std::abs(*d) < 9e15 ? std::optional(static_cast<Index>(*d))
                                                       : std::nullopt;
  if (const auto* s = std::get_if<std::string>(&value)) return parse<Index>(*s);
  return std::nullopt;
}

std::optional<std::vector<double>> as_doubles(const OptionValue& value) {
  if (const auto* list = std::get_if<std::vector<double>>(&value)) return *list;
  std::vector<double> numbers;
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (text->empty()) return numbers;
    for (std::size_t begin = 0; begin <= text->size();) {
      const std::size_t end = std::min(text->find(',', begin), text->size());
      const auto number = parse<double>(text->substr(begin, end - begin));
      if (!number) return std::nullopt;
      numbers.push_back(*number);
      begin = end + 1;
    }
    return numbers;
  }
  if (const auto number = as_double(value)) return std::vector<double>{*number};
  return std::nullopt;
}

std::optional<std::string> as_string(const OptionValue& value) {
  return to_text(value);  // a number is text too: layers=1
}

std::optional<bool> as_bool(const OptionValue& value) {
  if (const auto* b = std::get_if<bool>(&value)) return *b;
  if (const auto* s = std::get_if<std::string>(&value)) {
    if (*s == "true") return true;
    if (*s == "false") return false;
  }
  return std::nullopt;
}

/// Puts given values into the options of these names.
class SetOptions : public FieldVisitor {
 public:
  SetOptions(std::string_view detector, const OptionMap& values)
      : detector_(detector), values_(values) {}

  void option(std::string_view name, bool& value, std::string_view) override {
    set(name, value, as_bool, "true or false");
  }
  void option(std::string_view name, Index& value, const Range& range, std::string_view) override {
    set(name, value, as_index, "a whole number, " + range.text());
  }
  void option(std::string_view name, double& value, const Range& range, std::string_view) override {
    set(name, value, as_double, "a number, " + range.text());
  }
  void option(std::string_view name, std::vector<double>& value, const Range& range,
              std::string_view) override {
    set(name, value, as_doubles, "numbers joined by commas, each " + range.text());
  }
  void option(std::string_view name, std::string& value, std::string_view) override {
    set(name, value, as_string, "text");
  }
  void option_choice(std::string_view name, Index& chosen, std::span<const std::string_view> names,
                     std::string_view) override {
    const auto find = [&](const OptionValue& value) -> std::optional<Index> {
      const auto* text = std::get_if<std::string>(&value);
      const auto found = text ? std::ranges::find(names, *text) : names.end();
      return found == names.end() ? std::nullopt : std::optional<Index>(found - names.begin());
    };
    set(name, chosen, find, fmt::format("one of {}", fmt::join(names, ", ")));
  }

 private:
  template <class T, class Convert>
  void set(std::string_view name, T& value, const Convert& convert, const std::string& expected) {
    const auto given = values_.find(std::string(name));
    if (given == values_.end()) return;
    const auto converted = convert(given->second);
    if (!converted)
      throw_invalid("{}: option {} has {}, expected {}", detector_, name, to_text(given->second),
                    expected);
    value = *converted;
  }

  std::string_view detector_;
  const OptionMap& values_;
};

/// `given` with the options of the preset that it names, if it names one.
OptionMap with_preset(const Detector& detector, OptionMap given) {
  const auto named = given.find("preset");
  const auto presets = detector.presets();
  if (named == given.end() || presets.empty()) return given;
  const std::string name = to_text(named->second);
  if (name == "paper") {  // the defaults are the papers'
    given.erase(named);
    for (const OptionInfo& option : make_detector(detector.name())->options())
      given.emplace(option.name, option.value);  // keeps what was given
    return given;
  }
  const auto preset = std::ranges::find(presets, name, &Preset::name);
  if (preset == presets.end()) {
    std::vector<std::string> names;
    for (const Preset& known : presets) names.push_back(known.name);
    names.emplace_back("paper");
    throw_invalid("{}: preset has {}, expected one of {}", detector.name(), name,
                  fmt::join(names, ", "));
  }
  given.erase(named);
  given.insert(preset->options.begin(), preset->options.end());  // keeps what was given
  return given;
}

/// Settings one after another: what any detector can do.
class SeparateCandidates : public Candidates {
 public:
  SeparateCandidates(const Detector& detector, std::span<const OptionMap> settings) {
    for (const OptionMap& setting : settings) {
      detectors_.push_back(detector.clone());
      detectors_.back()->set_options(setting);
    }
  }

  void fit(BatchSource& source, const Exec& exec) override {
    for (const auto& detector : detectors_)
      if (detector->needs().fit.any()) detector->fit(source, exec);
  }

  void score(const Batch& batch, MatrixD& out, const Exec& exec) const override {
    std::vector<float> scores(static_cast<std::size_t>(batch.rows()));
    out.resize(batch.rows(), std::ssize(detectors_));
    for (std::size_t s = 0; s < detectors_.size(); ++s) {
      detectors_[s]->score(batch, scores, exec);
      if (!scores.empty())
        out.col(static_cast<Index>(s)) =
            Eigen::Map<const Vector>(scores.data(), std::ssize(scores)).cast<double>();
    }
  }

  Diagnostics diagnostics(Index setting) const override {
    return detectors_[static_cast<std::size_t>(setting)]->diagnostics();
  }

 private:
  std::vector<std::unique_ptr<Detector>> detectors_;
};

void check_width(const char* what, Index got, Index expected) {
  if (got == 0) throw_invalid("{} has 0 columns, expected 1 or more", what);
  if (expected != 0 && got != expected)
    throw_invalid("{} has {} columns, expected {}", what, got, expected);
}

}  // namespace

void Detector::fit(BatchSource& source, const Exec& exec) { fit(FitData{.train = &source}, exec); }

void Detector::fit(const FitData& data, const Exec& exec) {
  fitted_ = false;
  copies_ = OwnCopies();
  with_context(name(), ".fit", [&] {
    fit_data(data, exec);
    prepare();
  });
  fitted_ = true;
}

void Detector::fit_data(const FitData& data, const Exec& exec) {
  BatchSource& source = data.in_distribution(needs().split);
  check_source(source.info());
  fit_state(source, exec);
  set_widths(source.info());
}

void Detector::check_source(const SourceInfo& info) const {
  const Inputs wanted = needs().fit;
  if (const Inputs missing = wanted.without(available(info)); missing.any())
    throw_invalid("{} has no {}", info.name, fmt::join(missing.names(), ", no "));
  if (wanted.without({.head = true}).any() && info.rows == 0)
    throw_invalid("{} has 0 rows, expected 1 or more", info.name);
  if (wanted.labels && info.classes > info.rows)  // also keeps a stray label from taking memory
    throw std::domain_error(
        fmt::format("{} has {} classes but {} rows, expected 1 row or more of each", info.name,
                    info.classes, info.rows));
}

void Detector::set_widths(const SourceInfo& info) {
  const Inputs wanted = needs().score;
  fitted_dim_ = wanted.features || wanted.copy_features ? info.dim : 0;
  fitted_classes_ = wanted.logits || wanted.copy_logits ? info.classes : 0;
}

void Detector::set_fitted(const SourceInfo& info) {
  set_widths(info);
  fitted_ = true;
}

void Detector::check_batch(const Batch& batch) const {
  if (!fitted())
    throw std::logic_error(fmt::format("{}.score: not fitted, expected fit before score", name()));
  const Inputs wanted = needs().score;
  const Inputs given = {.features = batch.features.has_value(),
                        .logits = batch.logits.has_value(),
                        .labels = batch.labels.has_value(),
                        .layers = !batch.layers.empty(),
                        .copy_features = batch.copy_features.has_value(),
                        .copy_logits = batch.copy_logits.has_value(),
                        .head = true};  // needed in fit only, and kept from there
  if (const Inputs missing = wanted.without(given); missing.any())
    throw_invalid("batch has no {}", fmt::join(missing.names(), ", no "));
  if (batch.rows() == 0) return;
  if (wanted.features) check_width("features", batch.features->cols(), fitted_dim_);
  if (wanted.logits) check_width("logits", batch.logits->cols(), fitted_classes_);
  if (wanted.layers)
    for (const auto& [layer, view] : batch.layers)
      if (view.cols() == 0) check_width(("layers/" + layer).c_str(), 0, 0);
  const auto copy_width = [](const Tensor3View& copies) {
    if (copies.shape()[0] == 0) throw_invalid("copies has 0 members, expected 1 or more");
    return static_cast<Index>(copies.shape()[2]);
  };
  if (wanted.copy_features) {
    check_width("copies/features", copy_width(*batch.copy_features), fitted_dim_);
    if (wanted.features)
      check_width("copies/features", copy_width(*batch.copy_features), batch.features->cols());
  }
  if (wanted.copy_logits)
    check_width("copies/logits", copy_width(*batch.copy_logits), fitted_classes_);
}

void Detector::score(const Batch& batch, std::span<float> out, const Exec& exec) const {
  with_context(name(), ".score", [&] {
    check_batch(batch);
    const Index rows = batch.rows();
    if (std::ssize(out) != rows)
      throw_invalid("out has {} entries, expected {} as the batch has rows", out.size(), rows);
    if (exec.device.kind != Device::Kind::cpu) return score_on_device(batch, out, exec.device);
    const Index tiles = (rows + kernels::kTileRows - 1) / kernels::kTileRows;
    const auto score_one = [&](Index tile) {
      if (tiles == 1) return score_tile(batch, out);  // a slice may allocate
      const Index begin = tile * kernels::kTileRows;
      const Index count = std::min(kernels::kTileRows, rows - begin);
      score_tile(batch.slice(begin, count),
                 out.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
    };
    parallel_for(tiles, exec, std::cref(score_one));  // a std::function of it would be on the heap
  });
}

std::vector<float> Detector::score(const Batch& batch, const Exec& exec) const {
  std::vector<float> out(static_cast<std::size_t>(batch.rows()));
  score(batch, out, exec);
  return out;
}

bool Detector::fitted() const { return fitted_ || !needs().fit.any(); }

std::vector<OptionInfo> Detector::options() const {
  ListOptions list;
  const_cast<Detector*>(this)->show(list);  // the visitor changes nothing
  return list.options;
}

void Detector::set_options(const OptionMap& given) {
  const OptionMap values = with_preset(*this, given);
  const auto known = options();
  for (const auto& [name, value] : values) {
    if (std::ranges::find(known, name, &OptionInfo::name) != known.end()) continue;
    std::vector<std::string> names;
    for (const OptionInfo& option : known) names.push_back(option.name);
    if (names.empty()) throw_invalid("{}: unknown option {}, expected none", this->name(), name);
    throw_invalid("{}: unknown option {}, expected one of {}", this->name(), name,
                  fmt::join(names, ", "));
  }
  // on a copy first: a wrong value leaves this one as it was
  const auto trial = clone();
  SetOptions set(this->name(), values);
  trial->show(set);
  trial->check_options();
  show(set);
  fitted_ = false;
  fitted_dim_ = fitted_classes_ = 0;
  copies_ = OwnCopies();
}

std::unique_ptr<Candidates> Detector::candidates(std::span<const OptionMap> settings,
                                                 Quantity quantity) const {
  if (quantity == Quantity::log_likelihood)
    throw_invalid("{} has no density, expected a detector with a log-likelihood", name());
  return std::make_unique<SeparateCandidates>(*this, settings);
}

void Detector::check_options() {
  CheckOptions check(name());
  show(check);
}

void Detector::show(FieldVisitor& visitor) {
  visit(visitor);
  if (bound_by_products() && visitor.has_option("precision"))
    visitor.option("precision", precision_, kernels::kPrecisions,
                   "of the factors of the products in score, see docs/precision.md");
}

Diagnostics Detector::diagnostics() const {
  if (!fitted()) return {};
  Diagnostics all = found();
  const auto name_of = [](kernels::Precision precision) {
    return kernels::kPrecisions[static_cast<std::size_t>(precision)];
  };
  if (const kernels::Precision used = kernels::available(precision_); used != precision_)
    all.warnings.push_back(
        fmt::format("precision has {}, which this machine lacks: products are {}",
                    name_of(precision_), name_of(used)));
  return all;
}

void Detector::visit_all(FieldVisitor& visitor) {
  visitor.state("fitted_dim", fitted_dim_);
  visitor.state("fitted_classes", fitted_classes_);
  show(visitor);
}

void Detector::require_size(const char* state, Index got, Index expected) {
  if (got != expected) throw_invalid("{} has {} entries, expected {}", state, got, expected);
}

void Detector::finish_loading() {
  check_options();
  // 0 where fitting saw no such field, which is right where it asked for none
  const Inputs read = needs().score, fit = needs().fit;
  const bool dim = (read.features || read.copy_features) && (fit.features || fit.copy_features);
  const bool classes = (read.logits || read.copy_logits) && (fit.logits || fit.copy_logits);
  constexpr Index kMostColumns = Index{1} << 24;  // of a feature file too
  if (std::max(fitted_dim_, fitted_classes_) > kMostColumns)
    throw_invalid("{}: fitted_dim has {} and fitted_classes {}, expected at most {}", name(),
                  fitted_dim_, fitted_classes_, kMostColumns);
  if (fitted_dim_ < 0 || fitted_classes_ < 0 || (dim && fitted_dim_ == 0) ||
      (classes && fitted_classes_ == 0))
    throw_invalid("{}: fitted_dim has {} and fitted_classes {}, expected the widths of {}", name(),
                  fitted_dim_, fitted_classes_, fmt::join(read.names(), ", "));
  copies_ = OwnCopies();
  prepare();
  fitted_ = true;
}

}  // namespace ood
