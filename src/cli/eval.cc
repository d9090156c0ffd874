#include <memory>

#include "cli/commands.h"
#include "cli/evaluation.h"
#include "errors.h"

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
  if (arguments.verbose && arguments.format == "csv")
    throw_invalid("--verbose has no place in csv, expected --format table, markdown or json");
  const Report report = evaluate_file(arguments.file, arguments.detectors, arguments.out);
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
  command->callback([arguments, &action] {
    action = [arguments] {
      run(*arguments);
      return kDone;
    };
  });
}

}  // namespace ood::cli
