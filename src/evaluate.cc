#include "ood/evaluate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "errors.h"
#include "ood/devices.h"
#include "ood/report_builder.h"
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

/// A detector at work, and what it has found.
struct Entry {
  Detector* detector;
  DetectorResults results;
};

/// Takes the scores of one split in, all of them in one pass over the file.
template <class Take>
SourceScores score_entries(const Dataset& dataset, const SplitInfo& split,
                           std::vector<Entry>& entries, bool count_right, const Exec& exec,
                           const Take& take) {
  std::vector<Entry*> active;
  std::vector<const Detector*> detectors;
  for (Entry& entry : entries) {
    if (entry.results.failed()) continue;
    active.push_back(&entry);
    detectors.push_back(entry.detector);
  }
  if (active.empty()) return {};
  const auto source = dataset.source(split.name);
  SourceScores found = score_source(*source, detectors, count_right, exec);
  for (std::size_t e = 0; e < active.size(); ++e) {
    DetectorResults& results = active[e]->results;
    auto& [scores, failure, seconds] = found.detectors[e];
    if (!failure.empty()) {
      results.fail(fmt::format("on {}: {}", split.name, failure));
      continue;
    }
    results.timing.score_seconds += seconds;
    results.timing.scored_rows += std::ssize(scores);
    take(results, std::vector<double>(scores.begin(), scores.end()));
    scores = {};  // one detector's are there twice at a time
  }
  return found;
}

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

SourceScores score_source(BatchSource& source, std::span<const Detector* const> detectors,
                          bool count_right, const Exec& exec) {
  Inputs wanted;
  for (const Detector* detector : detectors) wanted = wanted.with(detector->needs().score);
  const Inputs to_count = {.logits = true, .labels = true};
  SourceScores found{.detectors = std::vector<SourceScores::OfDetector>(detectors.size()),
                     .right = {}};
  if (count_right && !to_count.without(available(source.info())).any()) {
    wanted = wanted.with(to_count);
    found.right = 0;
  }
  stream(source, wanted, exec, [&](const Batch& batch) {
    const auto rows = static_cast<std::size_t>(batch.rows());
    for (std::size_t d = 0; d < detectors.size(); ++d) {
      auto& [scores, failure, seconds] = found.detectors[d];
      if (!failure.empty()) continue;
      const auto start = std::chrono::steady_clock::now();
      scores.resize(scores.size() + rows);
      try {
        detectors[d]->score(batch, std::span(scores).last(rows), exec);
      } catch (const std::domain_error& error) {  // rows that the method is not defined for
        failure = error.what();
        scores = {};
        continue;
      }
      seconds += seconds_since(start);
    }
    if (found.right)
      *found.right +=
          std::llround(accuracy(*batch.logits, *batch.labels) * static_cast<double>(batch.rows()));
  });
  return found;
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

  ReportBuilder builder({.file = info.path.string(),
                         .model = info.model,
                         .id_dataset = info.id_dataset,
                         .version = OOD_VERSION,
                         .id_accuracy = {},
                         .rows = {},
                         .timings = {},
                         .left_out = {}});
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
      builder.leave_out(name, missing);
      continue;
    }
    try {
      ReportTiming timing = fit(*detector, dataset, options.exec);
      entries.push_back({detector.get(),
                         {std::move(timing),
                          detector->diagnostics(),
                          {.curves = options.curves, .keep_scores = options.keep_scores}}});
    } catch (const std::domain_error& error) {
      builder.leave_out(name, error.what());
    }
  }
  if (entries.empty()) return builder.finish();

  begin_step("score id_test");
  const auto right = score_entries(dataset, *id_test, entries, true, options.exec,
                                   [](DetectorResults& results, std::vector<double> scores) {
                                     results.set_id(std::move(scores));
                                   })
                         .right;

  for (const SplitInfo* set : sets) {
    const std::string name = set->name.substr(kOod.size());
    begin_step("score " + name);
    score_entries(dataset, *set, entries, false, options.exec,
                  [&](DetectorResults& results, std::vector<double> scores) {
                    results.add_set(name, set->kind, std::move(scores));
                  });
  }
  for (Entry& entry : entries) builder.add(std::move(entry.results));
  if (options.curves) begin_step("compare");
  Report report = builder.finish();
  if (right)
    report.id_accuracy = static_cast<double>(*right) / static_cast<double>(id_test->source.rows);
  if (options.curves || options.keep_scores) report.fingerprint = dataset.fingerprint();
  if (options.progress) options.progress("done", 1);
  return report;
}

}  // namespace ood
