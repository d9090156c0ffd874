#include <chrono>
#include <memory>

#include "cli/commands.h"
#include "cli/detector_arguments.h"
#include "cli/progress_line.h"
#include "errors.h"
#include "ood/evaluate.h"
#include "ood/report.h"
#include "ood/version.h"

namespace ood::cli {

namespace {

struct FitArguments {
  std::string file;
  DetectorArguments detector;
  std::string format = "table";
};

OptionMap options_of(const Detector& detector) {
  OptionMap options;
  for (const OptionInfo& option : detector.options()) options[option.name] = option.value;
  return options;
}

void run(const FitArguments& arguments) {
  if (arguments.detector.all()) throw_invalid("--detector has all, expected one detector");
  const auto detectors = make_detectors(arguments.detector);
  Detector& detector = *detectors.front();
  const Dataset dataset(arguments.file);
  if (auto missing = missing_fit_inputs(dataset.info(), detector); !missing.empty())
    throw_invalid("{}: {}", detector.name(), missing);
  Report report{.file = arguments.file,
                .model = dataset.info().model,
                .id_dataset = dataset.info().id_dataset,
                .version = OOD_VERSION,
                .id_accuracy = {},
                .rows = {},
                .timings = {},
                .left_out = {}};
  {
    ProgressLine line;
    report.searches =
        choose_options(dataset, detectors, arguments.detector,
                       [&](std::string_view step, double done) { line.show(step, done); });
    line.show("fit", 0);
    report.timings.push_back(fit(detector, dataset, {.threads = arguments.detector.threads}));
  }
  report.fits.push_back(
      {std::string(detector.name()), options_of(detector), detector.diagnostics()});
  print_warnings(report);
  print(arguments.format == "json" ? to_json(report) : to_table(report, true));
}

}  // namespace

void add_fit(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("fit", "Fit a detector on a feature file and show what the fit found out");
  auto arguments = std::make_shared<FitArguments>();
  command->add_option("file", arguments->file, "Feature file (HDF5)")->required();
  add_detector_arguments(*command, arguments->detector, true);
  command->add_option("--format,-f", arguments->format, "Form of the output")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  command->callback([arguments, &action] {
    action = [arguments] {
      run(*arguments);
      return kDone;
    };
  });
}

}  // namespace ood::cli
