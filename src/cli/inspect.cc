#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "ood/evaluate.h"
#include "ood/registry.h"

namespace ood::cli {

namespace {

struct InspectArguments {
  std::string file;
  std::string format = "table";
};

/// Why each detector cannot be evaluated on the file; "" where it can.
std::vector<std::pair<std::string, std::string>> detector_states(const DatasetInfo& info) {
  std::vector<std::pair<std::string, std::string>> states;
  for (const std::string& name : detector_names())
    states.emplace_back(name, missing_inputs(info, *make_detector(name)));
  return states;
}

std::string table(const DatasetInfo& info) {
  std::string text = info.path.string();
  if (!info.model.empty()) text += fmt::format(": {}", info.model);
  if (!info.id_dataset.empty()) text += fmt::format(", in-distribution {}", info.id_dataset);
  text += fmt::format("\n{} features, {} classes\n\n", info.dim, info.classes);

  std::size_t path = 0, shape = 0, dtype = 0;
  for (const ArrayInfo& array : info.arrays) {
    path = std::max(path, array.path.size());
    shape = std::max(shape, fmt::format("{}", fmt::join(array.shape, " x ")).size());
    dtype = std::max(dtype, array.dtype.size());
  }
  std::int64_t bytes = 0;
  for (const ArrayInfo& array : info.arrays) {
    bytes += array.bytes;
    text += fmt::format("{:<{}}  {:>{}}  {:<{}}  {:>12} bytes  {}\n", array.path, path,
                        fmt::format("{}", fmt::join(array.shape, " x ")), shape, array.dtype, dtype,
                        array.bytes, array.storage);
  }
  text += fmt::format("{} bytes in {} arrays\n", bytes, info.arrays.size());
  for (const SplitInfo& split : info.splits)
    if (split.name.starts_with("ood/"))
      text += fmt::format("/{} is {}\n", split.name,
                          split.kind.empty() ? "neither near nor far" : split.kind + " OOD");
  text += '\n';
  for (const auto& [name, missing] : detector_states(info))
    text += fmt::format("{}: {}\n", name, missing.empty() ? "can be evaluated" : missing);
  return text;
}

std::string json(const DatasetInfo& info) {
  using Json = nlohmann::ordered_json;
  Json root = {{"file", info.path.string()},
               {"model", info.model},
               {"id_dataset", info.id_dataset},
               {"dim", info.dim},
               {"classes", info.classes}};
  root["splits"] = Json::array();
  for (const SplitInfo& split : info.splits)
    root["splits"].push_back({{"name", split.name},
                              {"kind", split.kind},
                              {"rows", split.source.rows},
                              {"has", split.source.has.names()}});
  root["arrays"] = Json::array();
  for (const ArrayInfo& array : info.arrays)
    root["arrays"].push_back({{"path", array.path},
                              {"shape", array.shape},
                              {"dtype", array.dtype},
                              {"storage", array.storage},
                              {"bytes", array.bytes}});
  root["detectors"] = Json::array();
  for (const auto& [name, missing] : detector_states(info))
    root["detectors"].push_back({{"detector", name}, {"missing", missing}});
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void run(const InspectArguments& arguments) {
  const Dataset dataset(arguments.file);
  print(arguments.format == "json" ? json(dataset.info()) : table(dataset.info()));
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "inspect", "Show what is in a feature file and what each detector would find missing");
  auto arguments = std::make_shared<InspectArguments>();
  command->add_option("file", arguments->file, "Feature file (HDF5)")->required();
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
