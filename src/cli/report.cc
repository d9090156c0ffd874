#include <memory>

#include "cli/commands.h"
#include "cli/evaluation.h"

namespace ood::cli {

namespace {

struct ReportArguments {
  std::string file;
  DetectorArguments detectors;
  std::string out;
};

}  // namespace

void add_report(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "report", "Score the sets of a feature file and write one HTML page of tables and figures");
  auto arguments = std::make_shared<ReportArguments>();
  command->add_option("file", arguments->file, "Feature file (HDF5)")->required();
  add_detector_arguments(*command, arguments->detectors, false);
  command->add_option("--out,-o", arguments->out, "The page, such as report.html")->required();
  command->callback([arguments, &action] {
    action = [arguments] {
      write_file(arguments->out, to_html(evaluate_file(arguments->file, arguments->detectors,
                                                       arguments->out, {.curves = true})));
      return kDone;
    };
  });
}

}  // namespace ood::cli
