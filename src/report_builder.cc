#include "ood/report_builder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "errors.h"
#include "named_metrics.h"
#include "ranking.h"

namespace ood {

namespace {

constexpr std::array<const char*, 2> kMeanKinds = {"near", "far"};

/// 0 for near, 1 for far, 2 for others.
std::size_t number_of(const std::string& kind) {
  return static_cast<std::size_t>(std::ranges::find(kMeanKinds, kind) - kMeanKinds.begin());
}

/// The mean of rows, one or more of them.
ReportMean mean_of(const std::vector<const ReportRow*>& rows, const MeanAuroc& auroc) {
  const ReportRow& first = *rows.front();
  ReportMean mean{.detector = first.detector,
                  .options = first.options,
                  .kind = first.kind,
                  .datasets = std::ssize(rows),
                  .metrics = {}};
  const auto average = [&](double Metrics::*member, const auto& metrics_of) {
    double sum = 0;
    for (const ReportRow* row : rows) sum += metrics_of(*row).*member;
    return sum / static_cast<double>(rows.size());
  };
  const auto all_have = [&](const auto& part) {
    return std::ranges::all_of(rows,
                               [&](const ReportRow* row) { return (row->*part).has_value(); });
  };
  if (all_have(&ReportRow::auroc_interval)) mean.auroc_interval = auroc.interval();
  if (all_have(&ReportRow::bounds)) mean.bounds.emplace();
  for (const NamedMetric& metric : kMetrics) {
    const auto member = metric.member;
    mean.metrics.*member = average(member, [](const ReportRow& row) { return row.metrics; });
    if (!mean.bounds) continue;
    mean.bounds->low.*member =
        average(member, [](const ReportRow& row) { return row.bounds->low; });
    mean.bounds->high.*member =
        average(member, [](const ReportRow& row) { return row.bounds->high; });
  }
  return mean;
}

std::vector<std::string> sets_of(const std::vector<ReportRow>& rows, const ReportTiming& timing) {
  std::vector<std::string> sets;
  for (const ReportRow& row : rows)
    if (row.detector == timing.detector && row.options == timing.options)
      sets.push_back(row.dataset);
  return sets;
}

}  // namespace

OptionMap option_map(const Detector& detector) {
  OptionMap map;
  for (const OptionInfo& option : detector.options()) map[option.name] = option.value;
  return map;
}

DetectorResults::DetectorResults(ReportTiming fitted, Diagnostics found, ReportParts parts)
    : timing(std::move(fitted)), found_(std::move(found)), parts_(parts) {}

void DetectorResults::fail(std::string why) { failure_ = std::move(why); }

void DetectorResults::set_id(std::vector<double> scores) { id_scores_ = std::move(scores); }

void DetectorResults::set_id_counts(std::vector<std::int64_t> counts) {
  if (parts_.curves || parts_.keep_scores)
    throw_invalid("{}: {} need the scores themselves, expected no counts", timing.detector,
                  parts_.curves ? "curves" : "kept scores");
  id_counts_ = std::move(counts);
}

/// With its metrics and its interval, which is added to the mean's too.
void DetectorResults::add_row(ReportRow row, Ranking ranking) {
  if (row.n_id > 1 && row.n_ood > 1) {
    row.auroc_interval = auroc_interval(ranking);
    if (const std::size_t kind = number_of(row.kind); kind < mean_aurocs_.size())
      mean_aurocs_[kind].add(ranking);
  }
  row.metrics = all_metrics(std::move(ranking));
  rows_.push_back(std::move(row));
}

void DetectorResults::add_set(std::string name, std::string kind, std::vector<double> scores) {
  const Scores id = id_scores_;
  ReportRow row{.detector = timing.detector,
                .options = timing.options,
                .dataset = name,
                .kind = std::move(kind),
                .n_id = std::ssize(id),
                .n_ood = std::ssize(scores),
                .metrics = {}};
  Ranking ranked;
  try {
    ranked = ranking("compute_metrics", id, scores);
  } catch (const std::invalid_argument& error) {  // finite rows, but scores beyond float32
    return fail(fmt::format("on {}: {}", name, error.what()));
  }
  if (parts_.curves) {
    curves_.push_back(
        {row.detector, row.options, name, roc_curve(id, scores), score_histogram(id, scores)});
    if (all_scores_.empty()) all_scores_.assign(id.begin(), id.end());
    all_scores_.insert(all_scores_.end(), scores.begin(), scores.end());
  }
  add_row(std::move(row), std::move(ranked));
  if (parts_.keep_scores) kept_scores_.push_back({std::move(name), std::move(scores)});
}

void DetectorResults::add_set_counts(std::string name, std::string kind, BinCounts counts) {
  const BinCounts id = id_counts_;
  const MetricBounds bounds = binned_metrics(id, counts).bounds;
  const auto sum = [](BinCounts of) { return std::accumulate(of.begin(), of.end(), Index{0}); };
  add_row({.detector = timing.detector,
           .options = timing.options,
           .dataset = std::move(name),
           .kind = std::move(kind),
           .n_id = sum(id),
           .n_ood = sum(counts),
           .metrics = {},
           .auroc_interval = {},
           .bounds = bounds},
          ranking("binned_metrics", id, counts));
}

void ReportBuilder::leave_out(std::string detector, std::string reason) {
  report_.left_out.push_back({std::move(detector), std::move(reason)});
}

bool ReportBuilder::add(DetectorResults results) {
  const ReportTiming& timing = results.timing;
  for (const ReportTiming& other : report_.timings)
    if (other.detector == timing.detector && other.options == timing.options)
      throw_invalid("report: {} is there twice with the same options, expected each once",
                    timing.detector);
  if (!results.failed() && !report_.timings.empty()) {
    const ReportTiming& first = report_.timings.front();
    const auto sets = sets_of(results.rows_, timing), expected = sets_of(report_.rows, first);
    if (sets != expected)
      throw_invalid("report: {} has the sets {}, expected {} as {} has", timing.detector,
                    fmt::join(sets, ", "), fmt::join(expected, ", "), first.detector);
  }
  if (results.found_.any())
    report_.fits.push_back({timing.detector, timing.options, std::move(results.found_)});
  if (results.failed()) {
    leave_out(timing.detector, results.failure_);
    return false;
  }

  for (std::size_t k = 0; k < kMeanKinds.size(); ++k) {
    std::vector<const ReportRow*> of_kind;
    for (const ReportRow& row : results.rows_)
      if (row.kind == kMeanKinds[k]) of_kind.push_back(&row);
    if (!of_kind.empty()) report_.means.push_back(mean_of(of_kind, results.mean_aurocs_[k]));
  }
  std::ranges::move(results.rows_, std::back_inserter(report_.rows));
  std::ranges::move(results.curves_, std::back_inserter(report_.curves));
  if (results.parts_.curves) all_scores_.push_back(std::move(results.all_scores_));
  if (results.parts_.keep_scores)
    report_.scores.push_back({timing.detector, timing.options, std::move(results.id_scores_),
                              std::move(results.kept_scores_)});
  report_.timings.push_back(std::move(results.timing));
  return true;
}

Report ReportBuilder::finish() {
  if (!all_scores_.empty()) report_.agreement = rank_correlation(all_scores_);
  return std::exchange(report_, {});
}

}  // namespace ood
