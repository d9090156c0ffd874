#include "ood/gate.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <numbers>
#include <numeric>

#include "errors.h"
#include "named_metrics.h"
#include "near_matches.h"

namespace ood {

namespace {

constexpr double kLevel = 0.05;  // of p-values

/// In the order of kMetrics.
constexpr Interval MetricIntervals::*kIntervals[] = {&MetricIntervals::auroc,
                                                     &MetricIntervals::fpr,
                                                     &MetricIntervals::fpr_ood,
                                                     &MetricIntervals::aupr_in,
                                                     &MetricIntervals::aupr_out,
                                                     &MetricIntervals::aupr_in_trapezoid,
                                                     &MetricIntervals::aupr_out_trapezoid};
static_assert(std::size(kIntervals) == std::size(kMetrics));

bool compare(double got, const std::string& op, double bound) {
  if (op == ">=") return got >= bound;
  if (op == ">") return got > bound;
  if (op == "<=") return got <= bound;
  if (op == "<") return got < bound;
  throw_invalid("gate: a comparison is '{}', expected one of >=, >, <=, <", op);
}

template <class Items, class Name>
std::vector<std::string> names_in(const Items& items, Name name) {
  std::vector<std::string> names;
  for (const auto& item : items)
    if (std::ranges::find(names, item.*name) == names.end()) names.push_back(item.*name);
  return names;
}

const ReportScores::Set* find_set(const ReportScores& scores, const std::string& name) {
  const auto found = std::ranges::find(scores.sets, name, &ReportScores::Set::dataset);
  return found == scores.sets.end() ? nullptr : &*found;
}

/// A report, asked for one thing at a time.
class Asked {
 public:
  Asked(const Report& report, const Exec& exec) : report_(report), exec_(exec) {
    for (const auto& timing : report.timings)
      if (std::ranges::count(report.timings, timing.detector, &ReportTiming::detector) > 1)
        throw_invalid("gate: report has {} twice, expected each detector once", timing.detector);
  }

  /// Throws, for `who`, if the detector was not run.
  void require_detector(const std::string& who, const std::string& name) const {
    const auto known = names_in(report_.timings, &ReportTiming::detector);
    if (std::ranges::find(known, name) != known.end()) return;
    for (const LeftOut& left : report_.left_out)
      if (left.detector == name) throw_invalid("{}: {} was left out: {}", who, name, left.reason);
    throw_invalid("{}: unknown detector '{}'{}", who, name, near_matches(name, known));
  }

  const ReportScores& scores(const std::string& who, const std::string& detector) const {
    require_detector(who, detector);
    const auto found = std::ranges::find(report_.scores, detector, &ReportScores::detector);
    if (found == report_.scores.end())
      throw_invalid("{}: the report has no scores of {}, expected those of keep_scores", who,
                    detector);
    return *found;
  }

  RequirementCheck check(const Requirement& requirement) {
    RequirementCheck check{.requirement = requirement};
    const std::string who = fmt::format("requirement '{}'", requirement.text);
    if (requirement.detector.empty()) {
      if (!report_.id_accuracy)
        throw_invalid("{}: the accuracy is not known, expected logits and labels in /id_test", who);
      if (requirement.of != Requirement::Of::value)
        throw_invalid("{}: id_accuracy has no interval", who);
      check.got = *report_.id_accuracy;
    } else {
      require_detector(who, requirement.detector);
      const ReportRow* row = find(report_.rows, requirement, &ReportRow::dataset);
      const ReportMean* mean = find(report_.means, requirement, &ReportMean::kind);
      if (row != nullptr && mean != nullptr && (mean->datasets > 1 || row->kind != mean->kind))
        throw_invalid("{}: {} is a set and the mean over others, expected one meaning", who,
                      requirement.set);
      if (row != nullptr)
        check_row(who, *row, check);
      else if (mean != nullptr)
        check_mean(who, *mean, check);
      else
        throw_unknown_set(who, requirement);
    }
    if (std::isnan(check.got)) throw_invalid("{}: got NaN, expected a number", who);
    check.holds = compare(check.got, requirement.op, requirement.bound);
    return check;
  }

 private:
  template <class Measured, class Name>
  static const Measured* find(const std::vector<Measured>& all, const Requirement& asked,
                              Name name) {
    const auto found = std::ranges::find_if(all, [&](const Measured& one) {
      return one.detector == asked.detector && one.*name == asked.set;
    });
    return found == all.end() ? nullptr : &*found;
  }

  [[noreturn]] void throw_unknown_set(const std::string& who, const Requirement& asked) const {
    auto known = names_in(report_.rows, &ReportRow::dataset);
    for (const ReportMean& mean : report_.means)
      if (std::ranges::find(known, mean.kind) == known.end()) known.push_back(mean.kind);
    throw_invalid("{}: {} has no set '{}'{}", who, report_.file, asked.set,
                  near_matches(asked.set, known));
  }

  static std::size_t metric_index(const std::string& who, const std::string& name) {
    const auto found =
        std::ranges::find_if(kMetrics, [&](const NamedMetric& m) { return m.name == name; });
    if (found == std::end(kMetrics)) throw_invalid("{}: unknown metric '{}'", who, name);
    return static_cast<std::size_t>(found - std::begin(kMetrics));
  }

  /// The value, or the end of the interval that is asked for.
  static void take(const std::string& who, double value, RequirementCheck& check) {
    const auto of = check.requirement.of;
    check.got = value;
    if (of == Requirement::Of::value) return;
    if (!check.interval)
      throw_invalid("{}: there is no interval, expected two rows or more of a kind", who);
    check.got = of == Requirement::Of::low ? check.interval->low : check.interval->high;
  }

  void check_row(const std::string& who, const ReportRow& row, RequirementCheck& check) {
    const Requirement& asked = check.requirement;
    const std::size_t metric = metric_index(who, asked.metric);
    const double value = row.metrics.*kMetrics[metric].member;
    const bool known = row.auroc_interval.has_value();  // two rows or more of a kind
    if (metric == 0)
      check.interval = row.auroc_interval;
    else if (known &&
             (asked.of != Requirement::Of::value || !compare(value, asked.op, asked.bound)))
      check.interval = bootstrapped(who, row).*kIntervals[metric];
    take(who, value, check);
  }

  static void check_mean(const std::string& who, const ReportMean& mean, RequirementCheck& check) {
    const Requirement& asked = check.requirement;
    const std::size_t metric = metric_index(who, asked.metric);
    if (metric == 0)
      check.interval = mean.auroc_interval;
    else if (asked.of != Requirement::Of::value)
      throw_invalid(
          "{}: a mean over sets has an interval of auroc alone, expected auroc or one set", who);
    take(who, mean.metrics.*kMetrics[metric].member, check);
  }

  /// Drawn once for each row.
  const MetricIntervals& bootstrapped(const std::string& who, const ReportRow& row) {
    const auto key = std::pair(row.detector, row.dataset);
    if (const auto found = intervals_.find(key); found != intervals_.end()) return found->second;
    const ReportScores& all = scores(who, row.detector);
    const ReportScores::Set* set = find_set(all, row.dataset);
    if (set == nullptr)
      throw_invalid("{}: the report has no scores of {} on {}", who, row.detector, row.dataset);
    return intervals_[key] = bootstrap_intervals(all.id_test, set->scores, {.exec = exec_});
  }

  const Report& report_;
  Exec exec_;
  std::map<std::pair<std::string, std::string>, MetricIntervals> intervals_;
};

/// P(N(0, 1) >= (drop - max_drop) / sd). Where sd is 0 all rows agree.
double drop_p_value(const Comparison& found, double max_drop) {
  const double excess = found.difference.value - max_drop;
  if (found.sd == 0) return excess > 0 ? 0 : 1;
  return std::erfc(excess / found.sd / std::numbers::sqrt2) / 2;
}

std::string joined(const OptionMap& options) {
  std::string text;
  for (const auto& [name, value] : options)
    text += fmt::format("{}{}={}", text.empty() ? "" : ", ", name, to_text(value));
  return text.empty() ? "no options" : text;
}

void require_same_rows(const ReportScores& before, const std::string& set, std::size_t expected,
                       std::size_t got) {
  if (expected != got)
    throw_invalid(
        "baseline: {} has {} rows of {}, expected {} as in the file: rows are not the same",
        before.detector, expected, set, got);
}

void compare_with(const Baseline& baseline, const Report& report, const Asked& asked,
                  GateResult& result) {
  const std::string who = "baseline";
  for (const ReportScores& before : baseline.scores) {
    const ReportScores& now = asked.scores(who, before.detector);
    if (before.options != now.options)
      result.notes.push_back(fmt::format("{} runs with {}; in the baseline with {}", now.detector,
                                         joined(now.options), joined(before.options)));
    if (result.paired)
      require_same_rows(before, "id_test", before.id_test.size(), now.id_test.size());
    for (const auto& set : before.sets) {
      const ReportScores::Set* other = find_set(now, set.dataset);
      if (other == nullptr)
        throw_invalid("{}: {} has no set '{}'{}", who, report.file, set.dataset,
                      near_matches(set.dataset, names_in(now.sets, &ReportScores::Set::dataset)));
      if (result.paired)
        require_same_rows(before, set.dataset, set.scores.size(), other->scores.size());
      const auto test = result.paired ? compare_auroc : compare_auroc_unpaired;
      Comparison found;
      with_context(fmt::format("{}: {} on {}", who, before.detector, set.dataset), [&] {
        found = test(before.id_test, set.scores, now.id_test, other->scores, 1 - kLevel);
      });
      result.drops.push_back({.detector = before.detector,
                              .set = set.dataset,
                              .before = found.auroc_a,
                              .now = found.auroc_b,
                              .drop = found.difference,
                              .p_value = drop_p_value(found, result.max_drop)});
    }
    for (const auto& set : now.sets)
      if (find_set(before, set.dataset) == nullptr)
        result.notes.push_back(fmt::format("{} on {} is not in the baseline: not compared",
                                           now.detector, set.dataset));
  }
  for (const ReportScores& now : report.scores)
    if (std::ranges::find(baseline.scores, now.detector, &ReportScores::detector) ==
        baseline.scores.end())
      result.notes.push_back(fmt::format("{} is not in the baseline: not compared", now.detector));

  std::vector<double> p_values;
  for (const DropCheck& drop : result.drops) p_values.push_back(drop.p_value);
  const auto adjusted = holm_adjusted(p_values);
  for (std::size_t i = 0; i < adjusted.size(); ++i) {
    DropCheck& drop = result.drops[i];
    drop.p_value = adjusted[i];
    drop.holds = !(drop.drop.value > result.max_drop && drop.p_value <= kLevel);
  }
}

}  // namespace

std::vector<double> holm_adjusted(std::span<const double> p_values) {
  for (const double p : p_values)
    if (!(p >= 0 && p <= 1))
      throw_invalid("holm_adjusted: a p-value is {}, expected a share in [0, 1]", p);
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return p_values[i]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const auto left = static_cast<double>(order.size() - rank);
    largest = std::max(largest, std::min(1., left * p_values[order[rank]]));
    adjusted[order[rank]] = largest;
  }
  return adjusted;
}

Index GateResult::checks() const { return std::ssize(requirements) + std::ssize(drops); }

Index GateResult::failed() const {
  return std::ranges::count(requirements, false, &RequirementCheck::holds) +
         std::ranges::count(drops, false, &DropCheck::holds);
}

GateResult gate(const Report& report, const GateOptions& options) {
  if (!(options.max_drop >= 0 && options.max_drop <= 1))
    throw_invalid("gate: max_drop is {}, expected a share in [0, 1]", options.max_drop);
  GateResult result{.file = report.file,
                    .version = report.version,
                    .requirements = {},
                    .max_drop = options.max_drop,
                    .paired = false,
                    .drops = {},
                    .notes = {}};
  Asked asked(report, options.exec);
  for (const Requirement& requirement : options.requirements)
    result.requirements.push_back(asked.check(requirement));
  if (const Baseline* baseline = options.baseline; baseline != nullptr) {
    result.paired = options.same_rows ||
                    (!report.fingerprint.empty() && baseline->fingerprint == report.fingerprint);
    compare_with(*baseline, report, asked, result);
  }
  return result;
}

}  // namespace ood
