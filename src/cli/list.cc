#include <fmt/ranges.h>

#include "cli/commands.h"
#include "ood/registry.h"

namespace ood::cli {

namespace {

std::string or_nothing(const Inputs& inputs) {
  return inputs.any() ? fmt::format("{}", fmt::join(inputs.names(), ", ")) : "nothing";
}

/// Where the rows of a fit come from, where that is not /train.
std::string fit_rows(const Needs& needs) {
  std::string text;
  if (needs.split == Split::id_val) text += " (of /id_val)";
  if (needs.outliers.any()) text += fmt::format(" and {} of /ood_val", or_nothing(needs.outliers));
  return text;
}

/// Published values of a numeric option.
std::string sweep_of(const OptionInfo& option) {
  const bool number =
      std::holds_alternative<double>(option.value) || std::holds_alternative<Index>(option.value);
  if (!number || option.sweep.empty()) return {};
  std::vector<std::string> values;
  for (const OptionValue& value : option.sweep) values.push_back(to_text(value));
  return fmt::format("; try {}", fmt::join(values, ", "));
}

void run() {
  std::string text;
  for (const std::string& name : detector_names()) {
    const auto detector = make_detector(name);
    const Needs needs = detector->needs();
    text += fmt::format("{}\n  needs: {} to fit{}, {} to score\n", name, or_nothing(needs.fit),
                        fit_rows(needs), or_nothing(needs.score));
    for (const OptionInfo& option : detector->options())
      text += fmt::format("  {}.{} = {}  ({}; {}{})\n", name, option.name, to_text(option.value),
                          option.expected, option.help, sweep_of(option));
    for (const Preset& preset : detector->presets()) {
      std::string options;
      for (const auto& [option, value] : preset.options)
        options += fmt::format("{}{} = {}", options.empty() ? "" : ", ", option, to_text(value));
      text += fmt::format("  {}.preset = {}: {}  ({})\n", name, preset.name, options, preset.help);
    }
  }
  print(text);
}

}  // namespace

void add_list(CLI::App& app, Action& action) {
  app.add_subcommand("list", "List the detectors, what they need, and their options")
      ->callback([&action] { action = run; });
}

}  // namespace ood::cli
