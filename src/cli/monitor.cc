#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/progress_line.h"
#include "cli/scoring.h"
#include "errors.h"
#include "ood/drift.h"
#include "ood/fit_model.h"

namespace ood::cli {

namespace {

using Json = nlohmann::ordered_json;

struct MonitorArguments {
  ScoringArguments scoring;
  std::optional<Index> window;
  std::optional<double> alarm;
  std::string format = "table";
};

/// What was found of one window.
struct Window {
  Index first_row = 0, rows = 0, rejected = 0;
  KolmogorovSmirnov ks;
  MeanShift mean;
  Interval rejects;
  double rejects_p = 0;  // NaN where it is not known
  bool alarm = false;
};

/// Gathers scores until a window is full.
class Windows {
 public:
  Windows(const Model& model, std::optional<Index> size) : model_(model), size_(size) {}

  void append(const ScoredRows& rows) {
    for (std::size_t i = 0; i < rows.scores.size(); ++i) {
      scores_.push_back(rows.scores[i]);
      rejected_ += !(rows.p_values[i] > model_.alpha);
      if (size_ && std::ssize(scores_) == *size_) close();
    }
  }
  /// Ends the window that is open; the last one has the rows that are left.
  void close() {
    if (scores_.empty()) return;
    const Calibration& calibration = model_.calibration;
    const auto rows = std::ssize(scores_);
    found_.push_back(
        {.first_row = first_row_,
         .rows = rows,
         .rejected = rejected_,
         .ks = kolmogorov_smirnov(calibration.all(), scores_),
         .mean = mean_shift(calibration.all(), scores_),
         .rejects = share_interval(rejected_, rows),
         .rejects_p = calibration.by_class()
                          ? std::numeric_limits<double>::quiet_NaN()
                          : rejects_p_value(rejected_, rows, calibration.rows(), model_.alpha)});
    first_row_ += rows;
    rejected_ = 0;
    scores_.clear();
  }
  std::vector<Window>& found() { return found_; }

 private:
  const Model& model_;
  std::optional<Index> size_;
  std::vector<double> scores_;
  Index first_row_ = 0, rejected_ = 0;
  std::vector<Window> found_;
};

/// Marks the windows whose p-value, times their number, is `level` or less (Bonferroni): without drift an
/// alarm is raised with a probability of `level` at most, however many windows there are.
Index raise_alarms(std::vector<Window>& windows, std::optional<double> level) {
  Index alarms = 0;
  for (Window& window : windows) {
    window.alarm = level && window.ks.p_value * static_cast<double>(windows.size()) <= *level;
    alarms += window.alarm;
  }
  return alarms;
}

std::vector<std::string> notes(const Model& model) {
  std::vector<std::string> lines = calibration_warnings(model);
  const ScoreSample& sample = model.calibration.all();
  if (const auto kept = std::ssize(sample.kept()); kept < sample.rows())
    lines.push_back(
        fmt::format("{} of {} calibration scores are kept: D may be too small by 1 / 65,536, and "
                    "p-values too large",
                    kept, sample.rows()));
  if (model.calibration.by_class())
    lines.emplace_back("calibrated by class: the share of rejects has no p-value");
  return lines;
}

std::string calibrated_on(const Model& model) {
  return fmt::format("{} rows of /{}{}", model.calibrated_on.rows, model.calibrated_on.split,
                     model.calibrated_on.part ? ", a part of it" : "");
}

/// "-" for what is not known.
std::string number(double value, const char* format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

std::string interval(const Interval& of, double unit, const char* format) {
  return fmt::format("{} [{}, {}]", number(unit * of.value, format), number(unit * of.low, format),
                     number(unit * of.high, format));
}

std::string table(const MonitorArguments& arguments, const Scoring& scoring,
                  const std::vector<Window>& windows, Index alarms) {
  const Model& model = scoring.model();
  std::string text = fmt::format(
      "{}: {}, calibrated on {}\n{}: each window against the calibration scores, intervals at 95 "
      "%\n\n",
      arguments.scoring.model, model.detector->name(), calibrated_on(model), scoring.rows_name());
  std::vector<std::array<std::string, 8>> lines = {{"rows", "KS D", "p", "mean shift", "in sd", "p",
                                                    fmt::format("% rejected at {}", model.alpha),
                                                    "p"}};
  for (const Window& window : windows)
    lines.push_back({fmt::format("{}-{}", window.first_row, window.first_row + window.rows - 1),
                     number(window.ks.statistic, "{:.4f}"), number(window.ks.p_value, "{:.3g}"),
                     interval(window.mean.shift, 1, "{:.4g}"),
                     number(window.mean.standardized, "{:.3f}"),
                     number(window.mean.p_value, "{:.3g}"), interval(window.rejects, 100, "{:.2f}"),
                     number(window.rejects_p, "{:.3g}")});
  std::array<std::size_t, 8> widths{};
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], line[c].size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (std::size_t c = 0; c < widths.size(); ++c)
      text += fmt::format("{}{:>{}}", c == 0 ? "" : "  ", lines[i][c], widths[c]);
    text += i > 0 && windows[i - 1].alarm ? "  ALARM\n" : "\n";
  }
  for (const std::string& note : notes(model)) text += fmt::format("\nnote: {}", note);
  if (!notes(model).empty()) text += '\n';
  if (arguments.alarm)
    text += fmt::format("\n{} of {} windows raise an alarm: KS p-value times {} is {} or less\n",
                        alarms, windows.size(), windows.size(), *arguments.alarm);
  return text;
}

/// nlohmann::json writes null for NaN and infinity.
std::string json(const MonitorArguments& arguments, const Scoring& scoring,
                 const std::vector<Window>& windows, Index alarms) {
  const Model& model = scoring.model();
  Json root = {{"model", arguments.scoring.model},
               {"detector", model.detector->name()},
               {"calibrated_on",
                {{"split", model.calibrated_on.split},
                 {"rows", model.calibration.rows()},
                 {"part", model.calibrated_on.part},
                 {"by_class", model.calibration.by_class()}}},
               {"data", scoring.rows_name()},
               {"alpha", model.alpha},
               {"notes", notes(model)}};
  root["windows"] = Json::array();
  for (const Window& window : windows) {
    Json one = {{"first_row", window.first_row}, {"rows", window.rows}};
    one["ks"] = {{"statistic", window.ks.statistic},
                 {"p_value", window.ks.p_value},
                 {"exact", window.ks.exact}};
    one["mean"] = {{"calibration", window.mean.calibration_mean},
                   {"window", window.mean.window_mean},
                   {"shift", window.mean.shift.value},
                   {"low", window.mean.shift.low},
                   {"high", window.mean.shift.high},
                   {"in_sd", window.mean.standardized},
                   {"t", window.mean.t},
                   {"degrees_of_freedom", window.mean.degrees_of_freedom},
                   {"p_value", window.mean.p_value}};
    one["rejects"] = {{"rows", window.rejected},
                      {"share", window.rejects.value},
                      {"low", window.rejects.low},
                      {"high", window.rejects.high},
                      {"p_value", window.rejects_p}};
    one["alarm"] = window.alarm;
    root["windows"].push_back(std::move(one));
  }
  root["alarm_level"] = arguments.alarm ? Json(*arguments.alarm) : Json();
  root["alarms"] = alarms;
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Status run(const MonitorArguments& arguments) {
  if (arguments.window && *arguments.window < 2)
    throw_invalid("--window has {}, expected 2 or more rows", *arguments.window);
  if (arguments.alarm) require_share("--alarm", *arguments.alarm);
  Scoring scoring(arguments.scoring);
  if (!scoring.model().calibrated())
    throw_invalid("{} has no calibration, expected one to compare with", arguments.scoring.model);
  Windows windows(scoring.model(), arguments.window);
  {
    ProgressLine line;
    scoring.run([&](const ScoredRows& rows) {
      windows.append(rows);
      if (const auto all = scoring.rows())
        line.show("score " + scoring.rows_name(),
                  static_cast<double>(rows.first_row + std::ssize(rows.scores)) /
                      static_cast<double>(*all));
    });
    windows.close();
  }
  const Index alarms = raise_alarms(windows.found(), arguments.alarm);
  print((arguments.format == "json" ? json : table)(arguments, scoring, windows.found(), alarms));
  return alarms > 0 ? kFailed : kDone;
}

}  // namespace

void add_monitor(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "monitor", "Compare the scores of rows with the calibration scores of a model file: drift");
  auto arguments = std::make_shared<MonitorArguments>();
  add_scoring_arguments(*command, arguments->scoring);
  command->add_option("--window,-w", arguments->window,
                      "Compare each so many rows (default: all at once)");
  command->add_option(
      "--alarm", arguments->alarm,
      "Exit with 1 if the Kolmogorov-Smirnov p-value of a window, times the number of "
      "windows, is this or less");
  command->add_option("--format,-f", arguments->format, "Form of the output")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  command->callback([arguments, &action] { action = [arguments] { return run(*arguments); }; });
}

}  // namespace ood::cli
