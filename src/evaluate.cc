#include "ood/evaluate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <set>

#include "errors.h"
#include "named_metrics.h"
#include "ood/devices.h"
#include "ood/stream.h"
#include "ood/version.h"

namespace ood {

namespace {

constexpr std::string_view kTrain = "train", kIdVal = "id_val", kIdTest = "id_test",
                           kOodVal = "ood_val/", kOod = "ood/";

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const SplitInfo* find_split(const DatasetInfo& info, std::string_view name) {
  const auto found = std::ranges::find(info.splits, name, &SplitInfo::name);
  return found == info.splits.end() ? nullptr : &*found;
}

std::vector<const SplitInfo*> ood_splits(const DatasetInfo& info) {
  std::vector<const SplitInfo*> splits;
  for (const SplitInfo& split : info.splits)
    if (split.name.starts_with(kOod)) splits.push_back(&split);
  return splits;
}

/// "no labels in /train", or nothing.
std::string missing_in(const SplitInfo& split, const Inputs& needed) {
  const Inputs missing = needed.without(available(split.source));
  return missing.any() ? fmt::format("no {} in /{}", fmt::join(missing.names(), ", "), split.name)
                       : std::string();
}

/// Means of a detector over the sets of one kind, set by set.
class KindMean {
 public:
  void add(const Metrics& metrics, Scores id, Scores ood, bool has_interval) {
    ++datasets_;
    for (const auto& [name, member] : kMetrics) sum_.*member += metrics.*member;
    has_interval_ = has_interval_ && has_interval;
    if (has_interval_) auroc_.add(id, ood);
  }
  Index datasets() const { return datasets_; }
  Metrics metrics() const {
    Metrics mean = sum_;
    for (const auto& [name, member] : kMetrics) mean.*member /= static_cast<double>(datasets_);
    return mean;
  }
  std::optional<Interval> auroc_interval() const {
    return has_interval_ ? std::optional(auroc_.interval()) : std::nullopt;
  }

 private:
  Index datasets_ = 0;
  Metrics sum_;
  bool has_interval_ = true;
  MeanAuroc auroc_;
};

constexpr std::array<const char*, 2> kMeanKinds = {"near", "far"};

/// A detector at work, and what it has cost.
struct Entry {
  Detector* detector;
  ReportTiming timing;
  std::vector<double> id_scores;
  std::vector<ReportRow> rows;
  std::array<KindMean, kMeanKinds.size()> means;
  std::vector<ReportCurve> curves;
  std::vector<double> all_scores;  // of id_test and the sets, where the agreement is asked for
  std::vector<ReportScores::Set> kept_scores;
  std::string failure;  // why it has no scores, or none that can be ranked; "" where it has
};

/// The scores of every entry on one split, in one pass over the file, and the accuracy of the
/// network there where labels tell it.
class SplitScorer {
 public:
  SplitScorer(const Dataset& dataset, const Exec& exec) : dataset_(dataset), exec_(exec) {}

  std::vector<std::vector<double>> score(const SplitInfo& split, std::vector<Entry>& entries,
                                         std::optional<double>* id_accuracy = nullptr) const {
    Inputs wanted;
    for (const Entry& entry : entries) wanted = wanted.with(entry.detector->needs().score);
    const Inputs for_accuracy = {.logits = true, .labels = true};
    const bool count_right =
        id_accuracy != nullptr && !for_accuracy.without(available(split.source)).any();
    if (count_right) wanted = wanted.with(for_accuracy);

    std::vector<std::vector<double>> scores(entries.size());
    double right = 0;
    const auto source = dataset_.source(split.name);
    stream(*source, wanted, exec_, [&](const Batch& batch) {
      std::vector<float> block(static_cast<std::size_t>(batch.rows()));
      for (std::size_t e = 0; e < entries.size(); ++e) {
        if (!entries[e].failure.empty()) continue;
        const auto start = std::chrono::steady_clock::now();
        try {
          entries[e].detector->score(batch, block, exec_);
        } catch (const std::domain_error& error) {  // rows that the method is not defined for
          entries[e].failure = fmt::format("on {}: {}", split.name, error.what());
          continue;
        }
        entries[e].timing.score_seconds += seconds_since(start);
        entries[e].timing.scored_rows += batch.rows();
        scores[e].insert(scores[e].end(), block.begin(), block.end());
      }
      if (count_right)
        right += accuracy(*batch.logits, *batch.labels) * static_cast<double>(batch.rows());
    });
    if (count_right) *id_accuracy = right / static_cast<double>(split.source.rows);
    return scores;
  }

 private:
  const Dataset& dataset_;
  Exec exec_;
};

/// What the scores of one set add to a detector's results.
void add_set(Entry& entry, const SplitInfo& set, std::vector<double> scores,
             const EvaluateOptions& options) {
  const std::string name = set.name.substr(kOod.size());
  const Scores id = entry.id_scores;
  ReportRow row{.detector = entry.timing.detector,
                .options = entry.timing.options,
                .dataset = name,
                .kind = set.kind,
                .n_id = std::ssize(id),
                .n_ood = std::ssize(scores),
                .metrics = {}};
  try {
    row.metrics = compute_metrics(id, scores);
  } catch (const std::invalid_argument& error) {  // finite rows, but scores beyond float32
    entry.failure = fmt::format("on {}: {}", name, error.what());
    return;
  }
  if (id.size() > 1 && scores.size() > 1) row.auroc_interval = auroc_interval(id, scores);
  for (std::size_t k = 0; k < kMeanKinds.size(); ++k)
    if (set.kind == kMeanKinds[k])
      entry.means[k].add(row.metrics, id, scores, row.auroc_interval.has_value());
  if (options.curves) {
    entry.curves.push_back(
        {row.detector, row.options, name, roc_curve(id, scores), score_histogram(id, scores)});
    if (entry.all_scores.empty()) entry.all_scores.assign(id.begin(), id.end());
    entry.all_scores.insert(entry.all_scores.end(), scores.begin(), scores.end());
  }
  if (options.keep_scores) entry.kept_scores.push_back({name, std::move(scores)});
  entry.rows.push_back(std::move(row));
}

std::vector<ReportMean> means_of(const Entry& entry) {
  std::vector<ReportMean> means;
  for (std::size_t k = 0; k < kMeanKinds.size(); ++k)
    if (const KindMean& mean = entry.means[k]; mean.datasets() > 0)
      means.push_back({.detector = entry.timing.detector,
                       .options = entry.timing.options,
                       .kind = kMeanKinds[k],
                       .datasets = mean.datasets(),
                       .metrics = mean.metrics(),
                       .auroc_interval = mean.auroc_interval()});
  return means;
}

OptionMap option_map(const Detector& detector) {
  OptionMap map;
  for (const OptionInfo& option : detector.options()) map[option.name] = option.value;
  return map;
}

}  // namespace

namespace {

std::string_view asked_split(const Needs& needs) {
  return needs.split == Split::train ? kTrain : kIdVal;
}

/// The split that `needs` is given: the one that it asks for, or the other one.
std::string split_of(const DatasetInfo& info, const Needs& needs) {
  if (!needs.fit.without({.head = true}).any()) return {};
  const std::string_view asked = asked_split(needs), other = asked == kTrain ? kIdVal : kTrain;
  const bool fall_back = find_split(info, asked) == nullptr && find_split(info, other) != nullptr;
  return std::string(fall_back ? other : asked);
}

std::string missing_for_fit(const DatasetInfo& info, const Needs& needs) {
  if (const std::string name = split_of(info, needs); !name.empty()) {
    const SplitInfo* split = find_split(info, name);
    if (split == nullptr)
      return needs.split == Split::train ? "no /train" : "no /id_val and no /train";
    if (auto missing = missing_in(*split, needs.fit); !missing.empty()) return missing;
  } else if (needs.fit.head && !info.splits.empty() && !info.splits.front().source.has.head) {
    return "no head";
  }
  if (!needs.outliers.any()) return {};
  bool found = false;
  for (const SplitInfo& split : info.splits) {
    if (!split.name.starts_with(kOodVal)) continue;
    found = true;
    if (auto missing = missing_in(split, needs.outliers); !missing.empty()) return missing;
  }
  return found ? "" : "no /ood_val set";
}

/// The split whose scores others are compared with.
std::string calibration_split(const DatasetInfo& info, const Needs& needs) {
  const SplitInfo* id_val = find_split(info, kIdVal);
  return std::string(id_val != nullptr && missing_in(*id_val, needs.score).empty() ? kIdVal
                                                                                   : kTrain);
}

}  // namespace

std::string fit_split(const DatasetInfo& info, const Detector& detector) {
  const Needs needs = detector.needs();
  std::set<std::string> splits;
  const auto members = detector.needs_of_members();
  for (const Needs& own : members) splits.insert(split_of(info, own));
  if (members.empty()) splits.insert(split_of(info, needs));
  if (needs.calibrates) splits.insert(calibration_split(info, needs));
  splits.erase("");
  return fmt::format("{}", fmt::join(splits, ", "));
}

std::string missing_fit_inputs(const DatasetInfo& info, const Detector& detector) {
  const Needs needs = detector.needs();
  const auto members = detector.needs_of_members();
  if (members.empty()) return missing_for_fit(info, needs);
  for (const Needs& own : members)
    if (auto missing = missing_for_fit(info, own); !missing.empty()) return missing;
  return missing_for_fit(
      info, {.fit = needs.score,
             .score = {},
             .split = calibration_split(info, needs) == kIdVal ? Split::id_val : Split::train,
             .outliers = needs.outliers});
}

std::string missing_inputs(const DatasetInfo& info, const Detector& detector,
                           const Device& device) {
  if (device.kind != Device::Kind::cpu && !detector.runs_on_devices())
    return fmt::format("has no code for {}", device.name());
  if (auto missing = missing_fit_inputs(info, detector); !missing.empty()) return missing;
  const Inputs needed = detector.needs().score;
  const SplitInfo* id_test = find_split(info, kIdTest);
  if (id_test == nullptr) return "no /id_test";
  if (auto missing = missing_in(*id_test, needed); !missing.empty()) return missing;
  const auto splits = ood_splits(info);
  if (splits.empty()) return "no /ood set";
  for (const SplitInfo* split : splits)
    if (auto missing = missing_in(*split, needed); !missing.empty()) return missing;
  return {};
}

ReportTiming plan_fit(const DatasetInfo& info, const Detector& detector) {
  const Needs needs = detector.needs();
  auto each = detector.needs_of_members();
  if (each.empty()) each = {needs};
  ReportTiming timing{.detector = std::string(detector.name()),
                      .options = option_map(detector),
                      .fitted_on = fit_split(info, detector)};
  timing.fell_back = needs.calibrates && calibration_split(info, needs) != kIdVal;
  for (const Needs& own : each)
    if (const std::string split = split_of(info, own); !split.empty())
      timing.fell_back = timing.fell_back || split != asked_split(own);
  return timing;
}

ReportTiming fit(Detector& detector, const Dataset& dataset, const Exec& exec) {
  const Needs needs = detector.needs();
  ReportTiming timing = plan_fit(dataset.info(), detector);
  const auto start = std::chrono::steady_clock::now();
  if (needs.fit.any() || needs.outliers.any()) {
    FitSources sources(dataset);
    if (!sources.train && !sources.id_val)  // what needs the head alone: it is everywhere
      sources.train = dataset.source(dataset.info().splits.front().name);
    detector.fit(sources.data(), exec);
  }
  timing.fit_seconds = seconds_since(start);
  return timing;
}

Report evaluate(const Dataset& dataset, std::span<const std::unique_ptr<Detector>> detectors,
                const EvaluateOptions& options) {
  const DatasetInfo& info = dataset.info();
  const SplitInfo* id_test = find_split(info, kIdTest);
  if (id_test == nullptr) throw_invalid("{}: /id_test is missing", info.path.string());
  auto sets = ood_splits(info);
  if (sets.empty()) throw_invalid("{}: /ood has no set, expected 1 or more", info.path.string());
  for (const std::string& name : options.without)
    if (std::erase_if(
            sets, [&](const SplitInfo* set) { return set->name.substr(kOod.size()) == name; }) == 0)
      throw_invalid("{}: /ood has no set {}", info.path.string(), name);
  if (sets.empty())
    throw_invalid("{}: /ood has no set but those that options are chosen on, expected 1 or more",
                  info.path.string());

  for (std::size_t i = 0; i < detectors.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (detectors[i]->name() == detectors[j]->name() &&
          option_map(*detectors[i]) == option_map(*detectors[j]))
        throw_invalid("evaluate: {} is there twice with the same options, expected each once",
                      detectors[i]->name());
  require_device(options.exec.device);

  Report report{.file = info.path.string(),
                .model = info.model,
                .id_dataset = info.id_dataset,
                .version = OOD_VERSION,
                .id_accuracy = {},
                .rows = {},
                .timings = {},
                .left_out = {},
                .fits = {},
                .searches = {}};
  const double steps =
      static_cast<double>(detectors.size() + sets.size() + (options.curves ? 2 : 1));
  double done = 0;
  const auto begin_step = [&](const std::string& step) {
    if (options.progress) options.progress(step, done / steps);
    ++done;
  };

  std::vector<Entry> entries;
  for (const auto& detector : detectors) {
    const std::string name(detector->name());
    begin_step("fit " + name);
    if (auto missing = missing_inputs(info, *detector, options.exec.device); !missing.empty()) {
      report.left_out.push_back({name, missing});
      continue;
    }
    try {
      entries.push_back({.detector = detector.get(),
                         .timing = fit(*detector, dataset, options.exec),
                         .id_scores = {},
                         .rows = {},
                         .means = {},
                         .curves = {},
                         .all_scores = {},
                         .kept_scores = {},
                         .failure = {}});
    } catch (const std::domain_error& error) {
      report.left_out.push_back({name, error.what()});
      continue;
    }
    if (Diagnostics found = detector->diagnostics(); found.any())
      report.fits.push_back({name, option_map(*detector), std::move(found)});
  }

  if (entries.empty()) return report;

  const SplitScorer scorer(dataset, options.exec);
  begin_step("score id_test");
  auto id_scores = scorer.score(*id_test, entries, &report.id_accuracy);
  for (std::size_t e = 0; e < entries.size(); ++e) entries[e].id_scores = std::move(id_scores[e]);

  for (const SplitInfo* set : sets) {
    begin_step("score " + set->name.substr(kOod.size()));
    auto scores = scorer.score(*set, entries);
    for (std::size_t e = 0; e < entries.size(); ++e)
      if (entries[e].failure.empty()) add_set(entries[e], *set, std::move(scores[e]), options);
  }
  std::vector<std::vector<double>> all_scores;
  for (Entry& entry : entries) {
    if (!entry.failure.empty()) {
      report.left_out.push_back({entry.timing.detector, entry.failure});
      continue;
    }
    report.timings.push_back(entry.timing);
    std::ranges::move(entry.rows, std::back_inserter(report.rows));
    std::ranges::move(means_of(entry), std::back_inserter(report.means));
    std::ranges::move(entry.curves, std::back_inserter(report.curves));
    if (options.curves) all_scores.push_back(std::move(entry.all_scores));
    if (options.keep_scores)
      report.scores.push_back({entry.timing.detector, entry.timing.options,
                               std::move(entry.id_scores), std::move(entry.kept_scores)});
  }
  if (options.curves) {
    begin_step("compare");
    report.agreement = rank_correlation(all_scores);
  }
  if (options.curves || options.keep_scores) report.fingerprint = dataset.fingerprint();
  if (options.progress) options.progress("done", 1);
  return report;
}

}  // namespace ood
