#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/detector_arguments.h"
#include "cli/progress_line.h"
#include "errors.h"
#include "ood/evaluate.h"

namespace ood::cli {

namespace {

struct EvalArguments {
  std::string file;
  DetectorArguments detectors;
  std::string format = "table";
  std::string out;
  bool verbose = false;
};

std::string render(const Report& report, const EvalArguments& arguments) {
  if (arguments.format == "json") return to_json(report);
  if (arguments.format == "csv") return to_csv(report);
  if (arguments.format == "markdown") return to_markdown(report, arguments.verbose);
  return to_table(report, arguments.verbose);
}

void run(const EvalArguments& arguments) {
  std::error_code none;
  if (!arguments.out.empty() && std::filesystem::equivalent(arguments.out, arguments.file, none))
    throw_invalid("--out has {}, the feature file itself, expected another file", arguments.out);
  if (arguments.verbose && arguments.format == "csv")
    throw_invalid("--verbose has no place in csv, expected --format table, markdown or json");
  const bool all = arguments.detectors.all();
  const auto detectors = make_detectors(arguments.detectors);
  const Dataset dataset(arguments.file);
  if (!all)  // before the first fit, which may take long
    for (const auto& detector : detectors)
      if (auto missing = missing_inputs(dataset.info(), *detector); !missing.empty())
        throw_invalid("{}: {}", detector->name(), missing);
  const Report report = [&] {
    ProgressLine line;
    const auto progress = [&](std::string_view step, double done) { line.show(step, done); };
    auto searches = choose_options(dataset, detectors, arguments.detectors, progress);
    Report evaluated = evaluate(dataset, detectors,
                                {.exec = {.threads = arguments.detectors.threads},
                                 .without = used_for_choosing(dataset, arguments.detectors),
                                 .progress = progress});
    evaluated.searches = std::move(searches);
    return evaluated;
  }();
  for (const LeftOut& left : report.left_out) {
    const bool named = left.reason.starts_with(left.detector);
    const std::string line =
        named ? left.reason : fmt::format("{}: {}", left.detector, left.reason);
    if (!all) throw_invalid("{}", line);
    fmt::print(stderr, "left out: {}\n", line);
  }
  print_warnings(report);
  if (report.timings.empty()) throw_invalid("{}: no detector can be run", arguments.file);
  const std::string text = render(report, arguments);
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
  add_detector_arguments(*command, arguments->detectors, false);
  command->add_option("--format,-f", arguments->format, "Form of the output")
      ->check(CLI::IsMember({"table", "markdown", "csv", "json"}))
      ->capture_default_str();
  command->add_option("--out,-o", arguments->out, "Write to this file instead of standard output");
  command->add_flag("--verbose,-v", arguments->verbose,
                    "Show what each fit found out about itself (json always has it)");
  command->callback([arguments, &action] { action = [arguments] { run(*arguments); }; });
}

}  // namespace ood::cli
