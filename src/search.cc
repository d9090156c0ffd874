#include "ood/search.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <numeric>

#include "errors.h"
#include "ood/metrics.h"
#include "ood/random.h"
#include "ood/stream.h"
#include "subset_source.h"

namespace ood {

namespace {

constexpr std::uint32_t kRowStream = 0x300, kMixStream = 0x301, kClassStream = 0x302;

/// Settings that are fitted together: more would need much memory for their parameters.
constexpr std::size_t kMostAtOnce = 32;
constexpr std::size_t kMostSettings = 100'000;  // of a grid: more is a mistake

/// What is left of an interval in a step of the golden section.
constexpr double kGolden = std::numbers::phi - 1;

/// Exactly min(count, n) of n rows, each set of rows equally likely.
std::vector<char> choose_rows(Index n, Index count, std::uint64_t seed) {
  std::vector<char> mask(static_cast<std::size_t>(n), 0);
  for (Index i = 0, left = std::min(count, n); i < n && left > 0; ++i)
    if (uniform(seed, kRowStream, static_cast<std::uint64_t>(i)) * static_cast<double>(n - i) <
        static_cast<double>(left)) {
      mask[static_cast<std::size_t>(i)] = 1;
      --left;
    }
  return mask;
}

/// Chosen rows of a source, in memory.
class Rows {
 public:
  Rows() = default;
  /// One checked pass; logits that are wanted and not stored are computed.
  Rows(BatchSource& source, const Inputs& wanted, const std::vector<char>& mask, const Exec& exec) {
    SourceInfo info = source.info();
    info.has = available(info);
    buffer_ = std::make_unique<BatchBuffer>(info, wanted, std::ranges::count(mask, 1));
    stream(source, wanted, exec, [&](const Batch& batch) {
      for_each_run(mask, batch.first_row, batch.rows(),
                   [&](Index begin, Index count) { buffer_->append(batch.slice(begin, count)); });
    });
  }

  Batch view() const { return buffer_->view(); }
  Index count() const { return buffer_->rows(); }

  /// Those of certain classes.
  Rows of_classes(const std::vector<char>& chosen) const {
    const Batch all = view();
    SourceInfo info;
    info.has = {.features = true, .labels = true};
    info.dim = all.features->cols();
    Rows part;
    part.buffer_ = std::make_unique<BatchBuffer>(info, info.has, count());
    for (Index i = 0; i < count(); ++i)
      if (chosen[static_cast<std::size_t>((*all.labels)[static_cast<std::size_t>(i)])])
        part.buffer_->append(all.slice(i, 1));
    return part;
  }

  /// As many rows, each the mean of two of different classes, drawn at random.
  Rows mixed(std::uint64_t seed) const {
    const Batch all = view();
    SourceInfo info;
    info.has = {.features = all.features.has_value(), .logits = all.logits.has_value()};
    if (all.features) info.dim = all.features->cols();
    if (all.logits) info.classes = all.logits->cols();
    Rows mix;
    mix.buffer_ = std::make_unique<BatchBuffer>(info, info.has, count());
    for (Index i = 0; i < count(); ++i) {
      ItemRandom random(seed, kMixStream, static_cast<std::uint64_t>(i));
      const auto label = [&](Index row) { return (*all.labels)[static_cast<std::size_t>(row)]; };
      Index a = 0, b = 0;
      while (label(a) == label(b)) {  // ends, as there are two classes
        a = static_cast<Index>(random() % static_cast<std::uint64_t>(count()));
        b = static_cast<Index>(random() % static_cast<std::uint64_t>(count()));
      }
      if (all.features)
        mix.buffer_->features.row(i) = 0.5f * (all.features->row(a) + all.features->row(b));
      if (all.logits)  // of the mixed features, as the head is affine
        mix.buffer_->logits.row(i) = 0.5f * (all.logits->row(a) + all.logits->row(b));
    }
    mix.buffer_->set_rows(count());
    return mix;
  }

 private:
  std::unique_ptr<BatchBuffer> buffer_;
};

/// One fit, and the sets that its scores tell apart.
struct Problem {
  BatchSource* train;
  std::unique_ptr<BatchSource> owned{};  // what train points to, where it is a part of another
  Rows id{};
  std::vector<std::pair<std::string, Rows>> outliers{};  // part of the criterion, rows
  bool classes_left_out = false;
};

/// Everything that settings are tried on.
class Trials {
 public:
  Trials(const Detector& detector, const SearchSpec& spec, const SearchData& data, const Exec& exec)
      : detector_(detector), spec_(spec), exec_(exec) {
    const Inputs needed = detector.needs().score;
    if (detector.needs().outliers.any())
      throw_invalid(
          "search: {} is fitted on validation outliers, expected a detector that training rows "
          "alone are enough for",
          detector.name());
    // settings are compared on rows of id_val
    if (detector.needs().split == Split::id_val || detector.needs().calibrates)
      throw_invalid("search: {} is fitted on id_val, expected a detector that is fitted on train",
                    detector.name());
    const bool pseudo = spec.criterion == Criterion::pseudo_ood;
    if (pseudo) require_mixable(data.train.info());
    const bool outliers_needed =
        spec.criterion == Criterion::ood_val_auroc || spec.criterion == Criterion::ood_val_fpr95;
    if (outliers_needed && data.ood_val.empty())
      throw_invalid("{} needs a set of validation outliers, expected 1 or more",
                    kCriteria[static_cast<std::size_t>(spec.criterion)]);

    Problem& main = problems_.emplace_back(Problem{.train = &data.train});
    if (data.id_val != nullptr && !pseudo) {
      main.id = sample(*data.id_val, needed, id_);
      fit_ = {data.train.info().name, data.train.info().rows};
    } else {
      hold_out(data.train, needed, main);
    }
    if (main.id.count() == 0)
      throw std::domain_error(
          fmt::format("{} leaves 0 rows to compare settings on, expected 1 or more", id_.source));
    if (outliers_needed)
      for (const auto& [name, source] : data.ood_val) {
        SearchResult::Rows used;
        main.outliers.emplace_back(name, sample(*source, needed, used));
        outliers_.push_back(used);
      }
    if (pseudo) add_pseudo_outliers(data.train, main);
  }

  void describe(SearchResult& result) const {
    result.fit = fit_;
    result.id = id_;
    result.outliers = outliers_;
  }

  std::vector<SearchPoint> run(std::span<const OptionMap> settings) const {
    const bool density = spec_.criterion == Criterion::id_likelihood;
    std::vector<SearchPoint> points;
    for (const OptionMap& setting : settings) points.push_back({.options = setting});
    for (const Problem& problem : problems_) {
      const auto candidates =
          detector_.candidates(settings, density ? Quantity::log_likelihood : Quantity::score);
      if (problem.classes_left_out)
        with_context("search: pseudo_ood, on a half of the classes",
                     [&] { candidates->fit(*problem.train, exec_); });
      else
        candidates->fit(*problem.train, exec_);
      MatrixD id, outliers;
      candidates->score(problem.id.view(), id, exec_);
      for (std::size_t s = 0; s < points.size(); ++s) {
        for (auto& warning : candidates->diagnostics(static_cast<Index>(s)).warnings)
          points[s].warnings.push_back(std::move(warning));
        if (density) points[s].value = id.col(static_cast<Index>(s)).mean();
      }
      for (const auto& [part, rows] : problem.outliers) {
        candidates->score(rows.view(), outliers, exec_);
        for (std::size_t s = 0; s < points.size(); ++s)
          points[s].parts.emplace_back(
              part, compare(id.col(static_cast<Index>(s)), outliers.col(static_cast<Index>(s))));
      }
    }
    if (!density)
      for (SearchPoint& point : points) {
        for (const auto& part : point.parts) point.value += part.second;
        point.value /= static_cast<double>(point.parts.size());
      }
    return points;
  }

  /// A value that is no number is worse than any other; so is a likelihood that the fit warns of,
  /// beside one that it does not: a bad estimate of a normaliser is mostly too small.
  bool better(const SearchPoint& a, const SearchPoint& b) const {
    if (std::isnan(a.value) || std::isnan(b.value)) return !std::isnan(a.value);
    if (spec_.criterion == Criterion::id_likelihood && a.warnings.empty() != b.warnings.empty())
      return a.warnings.empty();
    return spec_.criterion == Criterion::ood_val_fpr95 ? a.value < b.value : a.value > b.value;
  }

 private:
  void require_mixable(const SourceInfo& info) const {
    if (!info.has.labels) throw_invalid("{} has no labels, which pseudo_ood needs", info.name);
    const Needs needs = detector_.needs();
    const Inputs other =
        needs.fit.with(needs.score)
            .without({.features = true, .logits = true, .labels = true, .head = true});
    if (other.any())
      throw_invalid("pseudo_ood makes features and logits, {} needs {}", detector_.name(),
                    fmt::join(other.names(), ", "));
  }

  Rows sample(BatchSource& source, const Inputs& needed, SearchResult::Rows& used) const {
    Rows rows(source, needed, choose_rows(source.info().rows, spec_.rows, spec_.seed), exec_);
    used = {source.info().name, rows.count()};
    return rows;
  }

  /// Takes rows of `train` to compare on, and leaves the others to fit on.
  void hold_out(BatchSource& train, const Inputs& needed, Problem& main) {
    const SourceInfo& info = train.info();
    const auto share = static_cast<Index>(spec_.held_out * static_cast<double>(info.rows));
    held_ = choose_rows(info.rows, std::min(spec_.rows, share), spec_.seed);
    if (info.has.labels) {
      stream(train, {.labels = true}, exec_, [&](const Batch& batch) {
        labels_.insert(labels_.end(), batch.labels->begin(), batch.labels->end());
      });
      std::vector<char> seen(static_cast<std::size_t>(info.classes), 0);
      for (std::size_t i = 0; i < labels_.size(); ++i) {
        char& known = seen[static_cast<std::size_t>(labels_[i])];
        if (!known) held_[i] = 0;
        known = 1;
      }
    }
    // what the fit reads too, so that its values are checked here, by their rows in `train`
    Inputs wanted = needed.with(detector_.needs().fit);
    wanted.labels = info.has.labels;
    main.id = Rows(train, wanted, held_, exec_);
    std::vector<char> others(held_.size());
    std::ranges::transform(held_, others.begin(), [](char h) { return h ? 0 : 1; });
    main.owned = std::make_unique<SubsetSource>(train, std::move(others));
    main.train = main.owned.get();
    fit_ = {info.name, main.train->info().rows};
    id_ = {info.name, main.id.count()};
  }

  void add_pseudo_outliers(BatchSource& train, Problem& main) {
    const SourceInfo& info = train.info();
    const Labels labels = *main.id.view().labels;
    if (std::ranges::all_of(labels, [&](std::int64_t label) { return label == labels[0]; }))
      throw std::domain_error(
          fmt::format("{} has held-out rows of 1 class, expected 2 or more", info.name));
    main.outliers.emplace_back("mixed", main.id.mixed(spec_.seed));
    outliers_.push_back({fmt::format("mixed rows of {}", info.name), main.id.count()});

    const Needs needs = detector_.needs();
    if (needs.fit.with(needs.score).without({.features = true, .labels = true}).any()) return;
    // fit on a random half of the classes, leave the other one out
    std::vector<Index> order(static_cast<std::size_t>(info.classes));
    std::iota(order.begin(), order.end(), 0);
    std::ranges::sort(order, {}, [&](Index c) {
      return std::pair(uniform(spec_.seed, kClassStream, static_cast<std::uint64_t>(c)), c);
    });
    std::vector<char> inside(order.size(), 0), outside(order.size(), 0);
    for (std::size_t i = 0; i < order.size(); ++i)
      (i % 2 == 0 ? inside : outside)[static_cast<std::size_t>(order[i])] = 1;
    Problem problem{.train = nullptr};
    problem.id = main.id.of_classes(inside);
    Rows outliers = main.id.of_classes(outside);
    if (problem.id.count() == 0 || outliers.count() == 0)
      throw std::domain_error(fmt::format(
          "{} has no held-out rows of one half of the classes, expected 1 or more", info.name));
    outliers_.push_back({fmt::format("classes left out of {}", info.name), outliers.count()});
    problem.outliers.emplace_back("classes_left_out", std::move(outliers));
    problem.owned = source_of_classes(train, inside);
    problem.train = problem.owned.get();
    problem.classes_left_out = true;
    problems_.push_back(std::move(problem));
  }

  std::unique_ptr<BatchSource> source_of_classes(BatchSource& train,
                                                 const std::vector<char>& inside) const {
    std::vector<Index> numbers(inside.size(), -1);
    Index next = 0;
    for (std::size_t c = 0; c < inside.size(); ++c)
      if (inside[c]) numbers[c] = next++;
    std::vector<char> mask(held_.size());
    for (std::size_t i = 0; i < mask.size(); ++i)
      mask[i] = !held_[i] && inside[static_cast<std::size_t>(labels_[i])];
    return std::make_unique<SubsetSource>(train, std::move(mask), std::move(numbers));
  }

  double compare(const VectorD& id, const VectorD& outliers) const {
    if (id.hasNaN() || outliers.hasNaN()) return std::nan("");  // beyond float32: no ranks
    const std::span<const double> a(id.data(), static_cast<std::size_t>(id.size())),
        b(outliers.data(), static_cast<std::size_t>(outliers.size()));
    return spec_.criterion == Criterion::ood_val_fpr95 ? fpr_at_tpr(a, b) : auroc(a, b);
  }

  const Detector& detector_;
  const SearchSpec& spec_;
  Exec exec_;
  std::vector<Problem> problems_;
  std::vector<char> held_;
  std::vector<std::int64_t> labels_;  // of the training rows, where rows are held out
  SearchResult::Rows fit_, id_;
  std::vector<SearchResult::Rows> outliers_;
};

/// Every combination of the values; the last axis runs fastest.
std::vector<OptionMap> combinations(const std::vector<SearchAxis>& grid) {
  std::vector<OptionMap> settings(1);
  for (const SearchAxis& axis : grid) {
    if (axis.values.empty())
      throw_invalid("search: {} has 0 values, expected 1 or more", axis.option);
    if (settings.size() * axis.values.size() > kMostSettings)
      throw_invalid("search: the grid has more than {} settings, expected fewer", kMostSettings);
    std::vector<OptionMap> longer;
    for (const OptionMap& setting : settings)
      for (const OptionValue& value : axis.values) {
        longer.push_back(setting);
        if (!longer.back().emplace(axis.option, value).second)
          throw_invalid("search: {} is searched twice, expected once", axis.option);
      }
    settings = std::move(longer);
  }
  return settings;
}

/// A setting with values of the options' own types. Throws if one is wrong.
OptionMap typed(const Detector& detector, OptionMap setting) {
  const auto trial = detector.clone();
  trial->set_options(setting);
  for (const OptionInfo& option : trial->options())
    if (const auto given = setting.find(option.name); given != setting.end())
      given->second = option.value;
  if (trial->needs().split == Split::id_val)
    throw_invalid(
        "search: {} is fitted on id_val with {}, expected settings that are fitted on train",
        detector.name(), to_text(setting.begin()->second));
  return setting;
}

/// What can be known to be wrong before data are read.
void check(const Detector& detector, const SearchSpec& spec) {
  if (spec.interval) {
    const auto& [option, min, max, tolerance] = *spec.interval;
    for (const double x : {min, max}) {
      const OptionMap setting = typed(detector, {{option, x}});
      if (!std::holds_alternative<double>(setting.at(option)))
        throw_invalid("search: {} is no real option, expected a grid of values", option);
    }
  }
  if (spec.criterion == Criterion::id_likelihood) detector.candidates({}, Quantity::log_likelihood);
}

using Progress = std::function<void(std::string_view step, double done)>;

std::vector<SearchPoint> try_grid(const Trials& trials, const std::vector<OptionMap>& settings,
                                  const Progress& progress) {
  std::vector<SearchPoint> curve;
  for (std::size_t begin = 0; begin < settings.size(); begin += kMostAtOnce) {
    if (progress)
      progress("search", static_cast<double>(begin) / static_cast<double>(settings.size()));
    const auto some =
        std::span(settings).subspan(begin, std::min(kMostAtOnce, settings.size() - begin));
    for (SearchPoint& point : trials.run(some)) curve.push_back(std::move(point));
  }
  return curve;
}

std::vector<SearchPoint> golden_section(const Trials& trials, const SearchInterval& interval,
                                        const Progress& progress) {
  std::vector<SearchPoint> curve;
  const auto trial = [&](double x) {
    if (progress) progress("search", 0);
    const OptionMap setting = {{interval.option, x}};
    curve.push_back(trials.run({&setting, 1}).front());
    return curve.back();
  };
  double low = interval.min, high = interval.max;
  double left = high - kGolden * (high - low), right = low + kGolden * (high - low);
  SearchPoint at_left = trial(left), at_right = trial(right);
  while (high - low > interval.tolerance) {
    if (trials.better(at_right, at_left)) {
      low = left;
      left = right;
      at_left = at_right;
      right = low + kGolden * (high - low);
      at_right = trial(right);
    } else {
      high = right;
      right = left;
      at_right = at_left;
      left = high - kGolden * (high - low);
      at_left = trial(left);
    }
  }
  std::ranges::sort(curve, {}, [&](const SearchPoint& point) {
    return std::get<double>(point.options.at(interval.option));
  });
  return curve;
}

void check(const SearchSpec& spec) {
  if (spec.grid.empty() == !spec.interval)
    throw_invalid("search: {} of grid and interval given, expected one",
                  spec.interval ? "both" : "none");
  if (spec.interval) {
    const auto& [option, min, max, tolerance] = *spec.interval;
    if (!(min < max) || !std::isfinite(max - min))
      throw_invalid("search: {} has the range {} to {}, expected it to rise", option, min, max);
    if (!(tolerance > (max - min) * 1e-9))
      throw_invalid("search: tolerance has {}, expected more than {}", tolerance,
                    (max - min) * 1e-9);
  }
  if (!(spec.held_out > 0 && spec.held_out <= 0.5))
    throw_invalid("search: held_out has {}, expected above 0, 0.5 or less", spec.held_out);
  if (spec.rows < 1) throw_invalid("search: rows has {}, expected 1 or more", spec.rows);
}

}  // namespace

SearchResult search(const Detector& detector, const SearchSpec& spec, const SearchData& data,
                    const Exec& exec, const Progress& progress) {
  check(spec);
  auto settings = combinations(spec.grid);
  for (OptionMap& setting : settings) setting = typed(detector, std::move(setting));
  check(detector, spec);
  const Trials trials(detector, spec, data, exec);
  SearchResult result{.detector = std::string(detector.name()),
                      .criterion = spec.criterion,
                      .best = {},
                      .curve = spec.interval ? golden_section(trials, *spec.interval, progress)
                                             : try_grid(trials, settings, progress),
                      .fit = {},
                      .id = {},
                      .outliers = {}};
  trials.describe(result);
  result.best = result.curve.front();
  for (const SearchPoint& point : result.curve)
    if (trials.better(point, result.best)) result.best = point;
  return result;
}

}  // namespace ood
