#include "ood/gate.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/evaluation.h"
#include "cli/gate_settings.h"
#include "errors.h"
#include "near_matches.h"
#include "ood/registry.h"

namespace ood::cli {

namespace {

struct GateArguments {
  std::string file;
  std::string config;
  GateSettings flags;
  bool update = false;
  std::string format = "table";
};

void require_outputs(const GateArguments& arguments, const GateSettings& settings) {
  require_output(settings.junit, arguments.file, "--junit");
  require_output(settings.summary, arguments.file, "--summary");
  require_output(settings.baseline, arguments.file, "--baseline");
  std::vector<std::string> others;  // what one output may not replace
  for (const std::string& path :
       {arguments.config, settings.baseline, settings.junit, settings.summary}) {
    if (path.empty()) continue;
    const auto whole = std::filesystem::weakly_canonical(path).string();
    if (std::ranges::find(others, whole) != others.end())
      throw_invalid(
          "{} is named twice, expected another file for each of --config, --baseline, "
          "--junit and --summary",
          path);
    others.push_back(whole);
  }
}

/// The baseline to compare with or to take detectors from; nothing where there is none yet.
std::optional<Baseline> find_baseline(const GateSettings& settings, bool update) {
  if (settings.baseline.empty()) {
    if (update) throw_invalid("--update has nothing to write, expected --baseline beside it");
    return {};
  }
  std::error_code none;
  if (std::filesystem::exists(settings.baseline, none)) return read_baseline(settings.baseline);
  if (!update)
    throw_invalid("{}: there is no such baseline, expected one that --update has written",
                  settings.baseline);
  return {};
}

/// All detectors that are named anywhere, those of the baseline with its options unless -p gives some.
DetectorArguments detector_arguments(const GateSettings& settings,
                                     const std::vector<Requirement>& requirements,
                                     const Baseline* baseline) {
  DetectorArguments arguments{.detectors = {},
                              .options = settings.options,
                              .searches = {},
                              .criterion = {},
                              .ood_val = {},
                              .search_rows = {},
                              .exec = {.threads = settings.threads.value_or(0),
                                       .device = settings.device.value_or(Device())}};
  const auto add = [&](const std::string& name) {
    if (!name.empty() && std::ranges::find(arguments.detectors, name) == arguments.detectors.end())
      arguments.detectors.push_back(name);
  };
  const auto known = detector_names();
  for (const std::string& name : settings.detectors) {
    if (std::ranges::find(known, name) == known.end())
      throw_invalid("--detector: unknown detector '{}'{}", name, near_matches(name, known));
    add(name);
  }
  for (const Requirement& requirement : requirements) add(requirement.detector);
  if (baseline != nullptr)
    for (const ReportScores& scores : baseline->scores) add(scores.detector);
  if (arguments.detectors.empty())
    throw_invalid(
        "gate: no detector is named, expected one in --require, --baseline or --detector");
  if (baseline == nullptr) return arguments;
  const auto given = detectors_with_options(arguments);
  for (const ReportScores& scores : baseline->scores)
    if (std::ranges::find(given, scores.detector) == given.end())
      for (const auto& [name, value] : scores.options)
        arguments.options.push_back(fmt::format("{}.{}={}", scores.detector, name, to_text(value)));
  return arguments;
}

std::string render(const GateResult& result, const std::string& format) {
  if (format == "json") return to_json(result);
  if (format == "markdown") return to_markdown(result);
  return to_table(result);
}

Status run(const GateArguments& arguments) {
  const GateSettings settings =
      merged(arguments.config.empty() ? GateSettings() : read_gate_settings(arguments.config),
             arguments.flags);
  if (settings.requirements.empty() && settings.baseline.empty() && !arguments.update)
    throw_invalid("gate: there is nothing to check, expected --require or --baseline");
  if (settings.baseline.empty() && (settings.max_drop || settings.same_rows))
    throw_invalid("gate: {} has no place without --baseline, expected one to compare with",
                  settings.max_drop ? "--max-drop" : "--same-rows");
  require_outputs(arguments, settings);
  std::vector<Requirement> requirements;
  for (const std::string& text : settings.requirements)
    requirements.push_back(parse_requirement(text));
  const auto baseline = find_baseline(settings, arguments.update);
  const Baseline* compared = baseline && !arguments.update ? &*baseline : nullptr;
  const auto detectors =
      detector_arguments(settings, requirements, baseline ? &*baseline : nullptr);
  {
    const Dataset dataset(arguments.file);  // before the first fit, which may take long
    for (const Requirement& requirement : requirements) require_known(requirement, dataset.info());
    if (compared != nullptr) require_known(*compared, dataset.info());
  }
  const Report report = evaluate_file(arguments.file, detectors, "", {.keep_scores = true});
  const GateOptions defaults;
  const GateResult result = gate(report, {.requirements = requirements,
                                          .baseline = compared,
                                          .max_drop = settings.max_drop.value_or(defaults.max_drop),
                                          .same_rows = settings.same_rows,
                                          .exec = detectors.exec});

  if (!settings.junit.empty()) write_file(settings.junit, to_junit(result));
  if (!settings.summary.empty()) write_file(settings.summary, to_markdown(result));
  print(render(result, arguments.format));
  if (arguments.update && result.holds())
    write_file(settings.baseline, to_json(make_baseline(report)));
  if (arguments.update)
    fmt::print(stderr, "{}: {}\n", settings.baseline,
               result.holds() ? "written" : "not written, as the gate failed");
  return result.holds() ? kDone : kFailed;
}

void add_flags(CLI::App& command, GateSettings& flags) {
  command
      .add_option("--require,-r", flags.requirements,
                  "What has to hold, such as 'conjnorm.far.auroc >= 0.93' or "
                  "'energy.svhn.fpr95.hi95 <= 0.3'; may be given several times")
      ->allow_extra_args(false);
  command.add_option("--baseline,-b", flags.baseline, "The baseline (JSON) to compare with");
  command.add_option("--max-drop", flags.max_drop, "AUROC that may be lost; 0.005 if not given")
      ->check(CLI::Range(0., 1.));
  command.add_flag("--same-rows", flags.same_rows,
                   "The rows are the baseline's, one for one, though the file is another one");
  command.add_option("--junit", flags.junit, "Write the result as JUnit's XML");
  command.add_option("--summary", flags.summary, "Write the result as Markdown");
  command
      .add_option("--detector,--detectors,-d", flags.detectors,
                  "Detectors besides those of requirements and baseline, separated by commas")
      ->delimiter(',');
  command
      .add_option(
          "--param,-p", flags.options,
          "Option of a detector, such as -p knn.k=200; a detector that is not given any has "
          "those of the baseline")
      ->allow_extra_args(false);
  command.add_option("--threads", flags.threads, "Threads; 0 = all")->check(CLI::Range(0, 1024));
  add_device_argument(command, flags.device);
}

}  // namespace

void add_gate(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "gate", "Check requirements and compare with a baseline; ends with 1 if one does not hold");
  auto arguments = std::make_shared<GateArguments>();
  command->add_option("file", arguments->file, "Feature file (HDF5)")->required();
  command->add_option("--config,--requirements,-c", arguments->config,
                      "File (TOML or JSON) of keys named as these flags");
  add_flags(*command, arguments->flags);
  command->add_flag("--update", arguments->update,
                    "Write the baseline, if the requirements hold, instead of comparing with it");
  command->add_option("--format,-f", arguments->format, "Form of the output")
      ->check(CLI::IsMember({"table", "markdown", "json"}))
      ->capture_default_str();
  command->callback([arguments, &action] { action = [arguments] { return run(*arguments); }; });
}

}  // namespace ood::cli
