#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

#include "cli/commands.h"
#include "errors.h"
#include "ood/evaluate.h"
#include "ood/registry.h"

namespace ood::cli {

namespace {

struct EvalArguments {
  std::string file;
  std::vector<std::string> detectors = {"all"};
  std::vector<std::string> options;  // "knn.k=200"
  std::string format = "table";
  std::string out;
  int threads = 0;
};

/// "knn.k=200" -> options["knn"]["k"] = "200".
std::map<std::string, OptionMap> parse_options(const std::vector<std::string>& texts) {
  std::map<std::string, OptionMap> options;
  for (const std::string& text : texts) {
    const auto dot = text.find('.'), equals = text.find('=');
    if (dot == std::string::npos || equals == std::string::npos || equals < dot)
      throw_invalid("-p has {}, expected <detector>.<option>=<value>, such as knn.k=200", text);
    options[text.substr(0, dot)][text.substr(dot + 1, equals - dot - 1)] = text.substr(equals + 1);
  }
  return options;
}

bool wants_all(const EvalArguments& arguments) {
  return arguments.detectors == std::vector<std::string>{"all"};
}

std::vector<std::unique_ptr<Detector>> make_detectors(const EvalArguments& arguments) {
  auto options = parse_options(arguments.options);
  const auto names = wants_all(arguments) ? detector_names() : arguments.detectors;
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const std::string& name : names) {
    if (std::ranges::count(names, name) > 1)
      throw_invalid("--detectors has {} twice, expected each once", name);
    detectors.push_back(make_detector(name, options[name]));
  }
  for (const auto& [name, values] : options)
    if (std::ranges::find(names, name) == names.end())
      throw_invalid("-p sets an option of {}, expected one of {}", name, fmt::join(names, ", "));
  return detectors;
}

/// One line on a terminal that is written over; nothing elsewhere.
class ProgressLine {
 public:
  void show(std::string_view step, double done) {
    if (!terminal_) return;
    fmt::print(stderr, "\r\033[K{:3.0f} %  {}", 100 * done, step);
    std::fflush(stderr);
  }
  ~ProgressLine() {
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }

 private:
  bool terminal_ = isatty(STDERR_FILENO) != 0;
};

std::string render(const Report& report, const std::string& format) {
  if (format == "json") return to_json(report);
  if (format == "csv") return to_csv(report);
  if (format == "markdown") return to_markdown(report);
  return to_table(report);
}

void run(const EvalArguments& arguments) {
  std::error_code none;
  if (!arguments.out.empty() && std::filesystem::equivalent(arguments.out, arguments.file, none))
    throw_invalid("--out has {}, the feature file itself, expected another file", arguments.out);
  const auto detectors = make_detectors(arguments);
  const Dataset dataset(arguments.file);
  if (!wants_all(arguments))  // before the first fit, which may take long
    for (const auto& detector : detectors)
      if (auto missing = missing_inputs(dataset.info(), *detector); !missing.empty())
        throw_invalid("{}: {}", detector->name(), missing);
  const Report report = [&] {
    ProgressLine line;
    return evaluate(
        dataset, detectors,
        {.exec = {.threads = arguments.threads},
         .progress = [&](std::string_view step, double done) { line.show(step, done); }});
  }();
  for (const LeftOut& left : report.left_out) {
    const bool named = left.reason.starts_with(left.detector);
    const std::string line =
        named ? left.reason : fmt::format("{}: {}", left.detector, left.reason);
    if (!wants_all(arguments)) throw_invalid("{}", line);
    fmt::print(stderr, "left out: {}\n", line);
  }
  if (report.timings.empty()) throw_invalid("{}: no detector can be run", arguments.file);
  const std::string text = render(report, arguments.format);
  if (arguments.out.empty())
    print(text);
  else
    write_file(arguments.out, text);
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("eval",
                                     "Score the sets of a feature file and print how well ID "
                                     "and OOD are told apart");
  auto arguments = std::make_shared<EvalArguments>();
  command->add_option("file", arguments->file, "Feature file (HDF5)")->required();
  command
      ->add_option("--detectors,-d", arguments->detectors,
                   "Detectors, separated by commas; 'all' takes every one that the file allows")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--param,-p", arguments->options,
                   "Option of a detector, such as -p knn.k=200; may be given several times")
      ->allow_extra_args(false);
  command->add_option("--format,-f", arguments->format, "Form of the output")
      ->check(CLI::IsMember({"table", "markdown", "csv", "json"}))
      ->capture_default_str();
  command->add_option("--out,-o", arguments->out, "Write to this file instead of standard output");
  command->add_option("--threads", arguments->threads, "Threads; 0 = all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->callback([arguments, &action] { action = [arguments] { run(*arguments); }; });
}

}  // namespace ood::cli
