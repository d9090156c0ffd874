#include <algorithm>
#include <charconv>
#include <utility>

#include "errors.h"
#include "named_metrics.h"
#include "near_matches.h"
#include "ood/gate.h"
#include "ood/registry.h"

namespace ood {

namespace {

constexpr std::string_view kAccuracy = "id_accuracy";
constexpr std::pair<std::string_view, Requirement::Of> kEnds[] = {{".lo95", Requirement::Of::low},
                                                                  {".hi95", Requirement::Of::high}};

std::string trimmed(std::string_view text) {
  constexpr auto kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(kSpace) - first + 1));
}

std::vector<std::string> metric_names() {
  std::vector<std::string> names;
  for (const NamedMetric& metric : kMetrics) names.emplace_back(metric.name);
  return names;
}

void parse_name(Requirement& parsed, std::string_view text) {
  if (text == kAccuracy) {
    parsed.metric = text;
    return;
  }
  for (const auto& [suffix, end] : kEnds)
    if (text.ends_with(suffix)) {
      parsed.of = end;
      text.remove_suffix(suffix.size());
    }
  const auto first = text.find('.'), last = text.rfind('.');
  if (first == std::string_view::npos || first == 0 || last <= first + 1)
    throw_invalid(
        "requirement '{}': has {}, expected <detector>.<set>.<metric>, such as "
        "conjnorm.far.auroc, or id_accuracy",
        parsed.text, text.empty() ? "no name" : text);
  parsed.detector = text.substr(0, first);
  parsed.set = text.substr(first + 1, last - first - 1);
  parsed.metric = text.substr(last + 1);
  const auto known = metric_names();
  if (std::ranges::find(known, parsed.metric) == known.end())
    throw_invalid("requirement '{}': unknown metric '{}'{}", parsed.text, parsed.metric,
                  near_matches(parsed.metric, known));
}

/// The sets of a file, without /ood.
std::vector<std::string> sets_of(const DatasetInfo& info) {
  constexpr std::string_view kOod = "ood/";
  std::vector<std::string> names;
  for (const SplitInfo& split : info.splits)
    if (split.name.starts_with(kOod)) names.push_back(split.name.substr(kOod.size()));
  return names;
}

}  // namespace

std::string Requirement::name() const {
  if (detector.empty()) return metric;
  std::string joined = fmt::format("{}.{}.{}", detector, set, metric);
  for (const auto& [suffix, end] : kEnds)
    if (of == end) joined += suffix;
  return joined;
}

Requirement parse_requirement(std::string_view text) {
  Requirement parsed;
  parsed.text = trimmed(text);
  const std::string_view all = parsed.text;
  const auto sign = all.find_last_of("<>");
  if (sign == std::string_view::npos)
    throw_invalid("requirement '{}': has no comparison, expected one of >=, >, <=, <", all);
  const std::size_t signs =
      all.substr(sign).starts_with(">=") || all.substr(sign).starts_with("<=") ? 2 : 1;
  parsed.op = std::string(all.substr(sign, signs));
  const std::string bound = trimmed(all.substr(sign + signs));
  const auto [end, error] =
      std::from_chars(bound.data(), bound.data() + bound.size(), parsed.bound);
  if (error != std::errc() || end != bound.data() + bound.size() ||
      !(parsed.bound >= 0 && parsed.bound <= 1))
    throw_invalid("requirement '{}': bound has '{}', expected a share from 0 to 1, such as 0.93",
                  all, bound);
  parse_name(parsed, trimmed(all.substr(0, sign)));
  return parsed;
}

void require_known(const Requirement& requirement, const DatasetInfo& info) {
  if (requirement.detector.empty()) return;
  if (const auto detectors = detector_names();
      std::ranges::find(detectors, requirement.detector) == detectors.end())
    throw_invalid("requirement '{}': unknown detector '{}'{}", requirement.text,
                  requirement.detector, near_matches(requirement.detector, detectors));
  auto sets = sets_of(info);
  for (const SplitInfo& split : info.splits)
    if (split.name.starts_with("ood/") && !split.kind.empty() &&
        std::ranges::find(sets, split.kind) == sets.end())
      sets.push_back(split.kind);
  if (std::ranges::find(sets, requirement.set) == sets.end())
    throw_invalid("requirement '{}': {} has no set '{}'{}", requirement.text, info.path.string(),
                  requirement.set, near_matches(requirement.set, sets));
}

void require_known(const Baseline& baseline, const DatasetInfo& info) {
  const auto detectors = detector_names(), sets = sets_of(info);
  for (const ReportScores& scores : baseline.scores) {
    if (std::ranges::find(detectors, scores.detector) == detectors.end())
      throw_invalid("baseline: unknown detector '{}'{}", scores.detector,
                    near_matches(scores.detector, detectors));
    for (const auto& set : scores.sets)
      if (std::ranges::find(sets, set.dataset) == sets.end())
        throw_invalid("baseline: {} has no set '{}'{}", info.path.string(), set.dataset,
                      near_matches(set.dataset, sets));
  }
}

}  // namespace ood
