#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "ood/registry.h"

namespace ood::cli {

namespace {

using Json = nlohmann::ordered_json;

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

std::string text_of(const Detector& detector) {
  const Needs needs = detector.needs();
  const std::string_view name = detector.name();
  std::string text = fmt::format("{}\n  needs: {} to fit{}, {} to score\n", name,
                                 or_nothing(needs.fit), fit_rows(needs), or_nothing(needs.score));
  for (const OptionInfo& option : detector.options())
    text += fmt::format("  {}.{} = {}  ({}; {}{})\n", name, option.name, to_text(option.value),
                        option.expected, option.help, sweep_of(option));
  for (const Preset& preset : detector.presets()) {
    std::string options;
    for (const auto& [option, value] : preset.options)
      options += fmt::format("{}{} = {}", options.empty() ? "" : ", ", option, to_text(value));
    text += fmt::format("  {}.preset = {}: {}  ({})\n", name, preset.name, options, preset.help);
  }
  return text;
}

Json json_of(const OptionValue& value) {
  return std::visit([](const auto& v) { return Json(v); }, value);
}

Json json_of(const Detector& detector) {
  const Needs needs = detector.needs();
  Json object = {{"detector", detector.name()},
                 {"fit", needs.fit.names()},
                 {"split", needs.split == Split::train ? "train" : "id_val"},
                 {"outliers", needs.outliers.names()},
                 {"score", needs.score.names()}};
  object["options"] = Json::array();
  for (const OptionInfo& option : detector.options()) {
    Json sweep = Json::array();
    for (const OptionValue& value : option.sweep) sweep.push_back(json_of(value));
    object["options"].push_back({{"option", option.name},
                                 {"default", json_of(option.value)},
                                 {"expected", option.expected},
                                 {"help", option.help},
                                 {"sweep", sweep}});
  }
  object["presets"] = Json::array();
  for (const Preset& preset : detector.presets()) {
    Json options = Json::object();
    for (const auto& [option, value] : preset.options) options[option] = json_of(value);
    object["presets"].push_back(
        {{"preset", preset.name}, {"options", options}, {"help", preset.help}});
  }
  return object;
}

void run(const std::string& format) {
  std::string text;
  Json list = Json::array();
  for (const std::string& name : detector_names()) {
    const auto detector = make_detector(name);
    if (format == "json")
      list.push_back(json_of(*detector));
    else
      text += text_of(*detector);
  }
  print(format == "json" ? list.dump(2) + "\n" : text);
}

}  // namespace

void add_list(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("list", "List the detectors, what they need, and their options");
  auto format = std::make_shared<std::string>("table");
  command->add_option("--format,-f", *format, "Form of the output")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  command->callback([format, &action] {
    action = [format] {
      run(*format);
      return kDone;
    };
  });
}

}  // namespace ood::cli
