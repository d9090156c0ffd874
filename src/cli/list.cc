#include <fmt/ranges.h>

#include "cli/commands.h"
#include "ood/registry.h"

namespace ood::cli {

namespace {

std::string or_nothing(const Inputs& inputs) {
  return inputs.any() ? fmt::format("{}", fmt::join(inputs.names(), ", ")) : "nothing";
}

void run() {
  std::string text;
  for (const std::string& name : detector_names()) {
    const auto detector = make_detector(name);
    const Needs needs = detector->needs();
    text += fmt::format("{}\n  needs: {} to fit, {} to score\n", name, or_nothing(needs.fit),
                        or_nothing(needs.score));
    for (const OptionInfo& option : detector->options())
      text += fmt::format("  {}.{} = {}  ({}; {})\n", name, option.name, to_text(option.value),
                          option.expected, option.help);
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
