#include "ood/report.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "named_metrics.h"
#include "text_table.h"

namespace ood {

namespace {

std::string percent(double share) { return fmt::format("{:.2f}", 100 * share); }

template <class A, class B>
bool same_detector(const A& a, const B& b) {
  return a.detector == b.detector && a.options == b.options;
}

std::string join_options(const OptionMap& options, const char* separator) {
  std::string text;
  for (const auto& [name, value] : options)
    text += fmt::format("{}{}={}", text.empty() ? "" : separator, name, to_text(value));
  return text;
}

/// The name of a detector, with its options where another one has the same name.
std::string label(const Report& report, const ReportTiming& timing) {
  const auto same_name =
      std::ranges::count(report.timings, timing.detector, &ReportTiming::detector);
  return same_name < 2
             ? timing.detector
             : fmt::format("{} ({})", timing.detector, join_options(timing.options, ", "));
}

/// Detectors by sets, then the means by kind, then seconds where asked for.
Cells metric_cells(const Report& report, const std::string& title, double Metrics::*metric,
                   bool seconds) {
  std::vector<std::string> sets, kinds;
  for (const ReportRow& row : report.rows)
    if (std::ranges::find(sets, row.dataset) == sets.end()) sets.push_back(row.dataset);
  for (std::string& name : sets) name = printable(name);
  for (const ReportMean& mean : report.means)
    if (std::ranges::find(kinds, mean.kind) == kinds.end()) kinds.push_back(mean.kind);

  Cells cells(1);
  cells[0].push_back(title);
  cells[0].insert(cells[0].end(), sets.begin(), sets.end());
  for (const auto& kind : kinds) cells[0].push_back(kind + " mean");
  if (seconds) cells[0].insert(cells[0].end(), {"fit s", "score s"});
  for (const ReportTiming& timing : report.timings) {
    std::vector<std::string> line = {label(report, timing)};
    for (const ReportRow& row : report.rows)
      if (same_detector(row, timing)) line.push_back(percent(row.metrics.*metric));
    for (const ReportMean& mean : report.means)
      if (same_detector(mean, timing)) line.push_back(percent(mean.metrics.*metric));
    if (seconds) {
      line.push_back(fmt::format("{:.2f}", timing.fit_seconds));
      line.push_back(fmt::format("{:.2f}", timing.score_seconds));
    }
    cells.push_back(std::move(line));
  }
  return cells;
}

std::string heading(const Report& report) {
  std::string text = report.file;
  if (!report.model.empty()) text += fmt::format(": {}", report.model);
  if (!report.id_dataset.empty()) text += fmt::format(", in-distribution {}", report.id_dataset);
  if (!report.rows.empty()) text += fmt::format(", {} test rows", report.rows.front().n_id);
  if (report.id_accuracy) text += fmt::format(", accuracy {} %", percent(*report.id_accuracy));
  return printable(text);
}

using Render = std::string (*)(Cells);

std::string number(double value) {
  return std::isnan(value) ? "nan" : fmt::format("{:.6g}", value);  // not -nan
}

/// As a table shows it: six digits.
std::string short_text(const OptionValue& value) {
  const auto* real = std::get_if<double>(&value);
  return real ? number(*real) : to_text(value);
}

/// Settings by the criterion and its parts; a star where the best one is.
std::string search_section(const Report& report, const SearchResult& search, Render render) {
  const auto short_name = [&](std::string source) {  // without the file, which the heading names
    const std::string file = report.file + ": ";
    const auto at = source.find(file);
    return at == std::string::npos ? source : source.erase(at, file.size());
  };
  Cells cells(1);
  for (const auto& option : search.best.options) cells[0].push_back(option.first);
  cells[0].push_back(std::string(kCriteria[static_cast<std::size_t>(search.criterion)]));
  const bool with_parts = search.best.parts.size() > 1;
  if (with_parts)
    for (const auto& part : search.best.parts) cells[0].push_back(printable(part.first));
  cells[0].push_back("best");
  const bool warned = std::ranges::any_of(
      search.curve, [](const SearchPoint& point) { return !point.warnings.empty(); });
  if (warned) cells[0].push_back("warning");
  bool found = false;
  for (const SearchPoint& point : search.curve) {
    std::vector<std::string> line;
    for (const auto& option : point.options) line.push_back(short_text(option.second));
    line.push_back(fmt::format("{:.4f}", point.value));
    if (with_parts)
      for (const auto& part : point.parts) line.push_back(fmt::format("{:.4f}", part.second));
    const bool best = !found && point.options == search.best.options;
    found |= best;
    line.emplace_back(best ? 1 : 0, '*');
    if (warned) line.emplace_back(point.warnings.empty() ? 0 : 1, '!');
    cells.push_back(std::move(line));
  }
  std::string text = fmt::format("Search: {}, fitted on {} rows of {}, compared on {} of {}",
                                 search.detector, search.fit.rows, short_name(search.fit.source),
                                 search.id.rows, short_name(search.id.source));
  for (const auto& outliers : search.outliers)
    text += fmt::format(", against {} of {}", outliers.rows, short_name(outliers.source));
  return fmt::format("{}\n\n{}\nbest: {} = {:.4f} at {}\n", printable(text),
                     render(std::move(cells)),
                     kCriteria[static_cast<std::size_t>(search.criterion)], search.best.value,
                     join_options(search.best.options, ", "));
}

std::string fit_section(const ReportFit& fit, Render render) {
  std::string text = fmt::format("Fit: {}", fit.detector);
  if (!fit.options.empty()) text += fmt::format(" ({})", join_options(fit.options, ", "));
  for (const auto& [name, value] : fit.found.values)
    text += fmt::format("\n{} = {}", name, short_text(value));
  text += '\n';
  if (fit.found.per_class.empty()) return text;
  Cells cells(fit.found.per_class.front().values.size() + 1);
  cells[0].push_back("class");
  for (std::size_t c = 1; c < cells.size(); ++c) cells[c].push_back(fmt::format("{}", c - 1));
  for (const auto& column : fit.found.per_class) {
    cells[0].push_back(column.name);
    for (std::size_t c = 1; c < cells.size(); ++c) cells[c].push_back(number(column.values[c - 1]));
  }
  return fmt::format("{}\n{}", text, render(std::move(cells)));
}

/// Which detectors were fitted on another split than their papers do.
std::string fallback_note(const Report& report) {
  std::string text;
  for (const bool on_train : {true, false}) {
    std::vector<std::string> names;
    for (const ReportTiming& timing : report.timings)
      if (timing.fell_back && timing.fitted_on.ends_with("train") == on_train)
        names.push_back(label(report, timing));
    if (!names.empty())
      text +=
          fmt::format("\nFitted on /{}, as there is no /{}: {}\n", on_train ? "train" : "id_val",
                      on_train ? "id_val" : "train", fmt::join(names, ", "));
  }
  return text;
}

/// How far metrics from counts may be off, in the percent of the tables.
std::string bounds_note(const Report& report) {
  std::vector<std::string> sets;
  const auto most = [&](double Metrics::*metric) {
    double farthest = 0;
    for (const ReportRow& row : report.rows)
      if (row.bounds)
        farthest = std::max({farthest, row.bounds->high.*metric - row.metrics.*metric,
                             row.metrics.*metric - row.bounds->low.*metric});
    return 100 * farthest;
  };
  for (const ReportRow& row : report.rows)
    if (row.bounds && std::ranges::find(sets, printable(row.dataset)) == sets.end())
      sets.push_back(printable(row.dataset));
  if (sets.empty()) return {};
  return fmt::format(
      "\nFrom counts of scores in bins: {}; AUROC % is within +-{:.2g}, FPR95 % within +-{:.2g}\n",
      fmt::join(sets, ", "), most(&Metrics::auroc), most(&Metrics::fpr95));
}

std::string sections(const Report& report, Render render, bool verbose) {
  std::string text = fmt::format("{}\n", heading(report));
  if (!report.rows.empty())
    text += fmt::format("\n{}\n{}", render(metric_cells(report, "AUROC %", &Metrics::auroc, true)),
                        render(metric_cells(report, "FPR95 %", &Metrics::fpr95, false)));
  text += bounds_note(report);
  text += fallback_note(report);
  for (const SearchResult& search : report.searches)
    text += fmt::format("\n{}", search_section(report, search, render));
  if (verbose)
    for (const ReportFit& fit : report.fits) text += fmt::format("\n{}", fit_section(fit, render));
  return text;
}

nlohmann::ordered_json to_json(const OptionMap& options) {
  auto object = nlohmann::ordered_json::object();
  for (const auto& option : options)
    std::visit([&](const auto& value) { object[option.first] = value; }, option.second);
  return object;
}

/// Of a row or a mean.
template <class Measured>
void add_metrics(nlohmann::ordered_json& object, const Measured& measured) {
  for (const auto& [name, member] : kMetrics) object[name] = measured.metrics.*member;
  const auto& interval = measured.auroc_interval;
  object["auroc_low"] = interval ? nlohmann::ordered_json(interval->low) : nullptr;
  object["auroc_high"] = interval ? nlohmann::ordered_json(interval->high) : nullptr;
  if (const auto& bounds = measured.bounds)
    for (const auto& [name, member] : kMetrics)
      object["bounds"][name] = {bounds->low.*member, bounds->high.*member};
}

nlohmann::ordered_json to_json(const SearchResult::Rows& rows) {
  return {{"source", rows.source}, {"rows", rows.rows}};
}

nlohmann::ordered_json to_json(const SearchPoint& point) {
  auto parts = nlohmann::ordered_json::object();
  for (const auto& part : point.parts) parts[part.first] = part.second;
  return {{"options", to_json(point.options)},
          {"value", point.value},
          {"parts", parts},
          {"warnings", point.warnings}};
}

nlohmann::ordered_json to_json(const SearchResult& search) {
  nlohmann::ordered_json object = {
      {"detector", search.detector},
      {"criterion", kCriteria[static_cast<std::size_t>(search.criterion)]},
      {"fit", to_json(search.fit)},
      {"id", to_json(search.id)}};
  object["outliers"] = nlohmann::ordered_json::array();
  for (const auto& rows : search.outliers) object["outliers"].push_back(to_json(rows));
  object["best"] = to_json(search.best);
  object["curve"] = nlohmann::ordered_json::array();
  for (const SearchPoint& point : search.curve) object["curve"].push_back(to_json(point));
  return object;
}

nlohmann::ordered_json to_json(const ReportFit& fit) {
  nlohmann::ordered_json object = {{"detector", fit.detector}, {"options", to_json(fit.options)}};
  object["values"] = nlohmann::ordered_json::object();
  for (const auto& named : fit.found.values)
    std::visit([&](const auto& value) { object["values"][named.first] = value; }, named.second);
  object["per_class"] = nlohmann::ordered_json::object();
  for (const auto& column : fit.found.per_class) object["per_class"][column.name] = column.values;
  object["warnings"] = fit.found.warnings;
  return object;
}

nlohmann::ordered_json to_json(const ReportCurve& curve) {
  std::vector<double> fpr, tpr;
  for (const RocPoint& point : curve.roc) {
    fpr.push_back(point.fpr);
    tpr.push_back(point.tpr);
  }
  return {{"detector", curve.detector},
          {"options", to_json(curve.options)},
          {"dataset", curve.dataset},
          {"roc", {{"fpr", fpr}, {"tpr", tpr}}},
          {"histogram",
           {{"low", curve.histogram.low},
            {"high", curve.histogram.high},
            {"id", curve.histogram.id},
            {"ood", curve.histogram.ood}}}};
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

std::string to_table(const Report& report, bool verbose) {
  return sections(report, plain_table, verbose);
}

std::string to_markdown(const Report& report, bool verbose) {
  return sections(report, markdown_table, verbose);
}

std::string to_csv(const Report& report) {
  std::string text = "detector,options,dataset,kind,n_id,n_ood";
  for (const auto& [name, member] : kMetrics) text += fmt::format(",{}", name);
  text += ",auroc_low,auroc_high";
  const bool with_bounds =
      std::ranges::any_of(report.rows, [](const ReportRow& row) { return row.bounds.has_value(); });
  if (with_bounds)
    for (const auto& [name, member] : kMetrics)
      text += fmt::format(",{}_bound_low,{}_bound_high", name, name);
  text += '\n';
  for (const ReportRow& row : report.rows) {
    text +=
        fmt::format("{},{},{},{},{},{}", row.detector, csv_field(join_options(row.options, ";")),
                    csv_field(row.dataset), row.kind, row.n_id, row.n_ood);
    for (const auto& [name, member] : kMetrics) text += fmt::format(",{}", row.metrics.*member);
    text += row.auroc_interval
                ? fmt::format(",{},{}", row.auroc_interval->low, row.auroc_interval->high)
                : ",,";
    if (with_bounds)
      for (const auto& [name, member] : kMetrics)
        text += row.bounds
                    ? fmt::format(",{},{}", row.bounds->low.*member, row.bounds->high.*member)
                    : ",,";
    text += '\n';
  }
  return text;
}

std::string to_json(const Report& report) {
  nlohmann::ordered_json root = {{"file", report.file},
                                 {"model", report.model},
                                 {"id_dataset", report.id_dataset},
                                 {"version", report.version}};
  root["id_accuracy"] = report.id_accuracy ? nlohmann::ordered_json(*report.id_accuracy) : nullptr;
  root["rows"] = nlohmann::ordered_json::array();
  for (const ReportRow& row : report.rows) {
    nlohmann::ordered_json object = {{"detector", row.detector}, {"options", to_json(row.options)},
                                     {"dataset", row.dataset},   {"kind", row.kind},
                                     {"n_id", row.n_id},         {"n_ood", row.n_ood}};
    add_metrics(object, row);
    root["rows"].push_back(object);
  }
  root["means"] = nlohmann::ordered_json::array();
  for (const ReportMean& mean : report.means) {
    nlohmann::ordered_json object = {{"detector", mean.detector},
                                     {"options", to_json(mean.options)},
                                     {"kind", mean.kind},
                                     {"datasets", mean.datasets}};
    add_metrics(object, mean);
    root["means"].push_back(object);
  }
  root["timings"] = nlohmann::ordered_json::array();
  for (const ReportTiming& timing : report.timings)
    root["timings"].push_back({{"detector", timing.detector},
                               {"options", to_json(timing.options)},
                               {"fitted_on", timing.fitted_on},
                               {"fell_back", timing.fell_back},
                               {"fit_seconds", timing.fit_seconds},
                               {"score_seconds", timing.score_seconds},
                               {"scored_rows", timing.scored_rows}});
  root["left_out"] = nlohmann::ordered_json::array();
  for (const LeftOut& left : report.left_out)
    root["left_out"].push_back({{"detector", left.detector}, {"reason", left.reason}});
  root["fits"] = nlohmann::ordered_json::array();
  for (const ReportFit& fit : report.fits) root["fits"].push_back(to_json(fit));
  root["searches"] = nlohmann::ordered_json::array();
  for (const SearchResult& search : report.searches) root["searches"].push_back(to_json(search));
  if (!report.fingerprint.empty()) root["fingerprint"] = report.fingerprint;
  if (!report.curves.empty()) {
    root["curves"] = nlohmann::ordered_json::array();
    for (const ReportCurve& curve : report.curves) root["curves"].push_back(to_json(curve));
    root["agreement"] = nlohmann::ordered_json::array();
    for (const auto& row : report.agreement.rowwise())
      root["agreement"].push_back(std::vector<double>(row.begin(), row.end()));
  }
  // attributes of a file may hold any bytes: what is no UTF-8 is shown as a replacement character
  return root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace ood
