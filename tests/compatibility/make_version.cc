// Makes the files of a version: ood_make_compatibility tests/compatibility/v<N>. A folder that exists is
// never touched: what was released once stays as it is.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ood/fit_model.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Index kDim = 12, kClasses = 3;

/// Such that files stay small and 90 rows are enough.
OptionMap small_options(const std::string& name) {
  static const std::map<std::string, OptionMap> kOptions = {
      {"knn", {{"k", Index{5}}}},
      {"nnguide", {{"k", Index{5}}}},
      {"corp", {{"dimension", Index{16}}}},
      {"react", {{"percentile", 85.0}}},
      {"conjnorm", {{"p", 2.5}}},
      {"fusion", {{"detectors", std::string("energy+knn(k=3)")}}},
      {"gaussian_density", {{"ridge", 1e-3}}}};
  const auto found = kOptions.find(name);
  return found == kOptions.end() ? OptionMap() : found->second;
}

void write_rows(const std::filesystem::path& path) {
  const auto train = test::make_everything(90, kDim, kClasses, 7);
  const auto id_val = test::make_everything(60, kDim, kClasses, 8);
  const auto outliers = test::make_everything(30, kDim, kClasses, 11, 0.01, 1.3F, 1.0);
  const auto rows = test::make_everything(12, kDim, kClasses, 9, 0, 1, 0.3);
  DatasetWriter writer(path, {.gzip_level = 9});
  writer.write_head(train.head);
  writer.append("train", train.batch());
  writer.append("id_val", id_val.batch());
  writer.append("ood_val/noise", outliers.batch());
  writer.append("id_test", rows.batch());
  writer.append("ood/noise", outliers.batch().slice(0, 12));
  writer.close();
}

nlohmann::ordered_json expected(const Model& model, const Dataset& dataset) {
  nlohmann::ordered_json json{{"options", nlohmann::ordered_json::object()}};
  for (const OptionInfo& option : model.detector->options())
    json["options"][option.name] = to_text(option.value);
  json["by_class"] = model.calibration.by_class();
  for (Index c = 0; c < (model.calibration.by_class() ? kClasses : 1); ++c)
    json["thresholds"].push_back(fmt::format("{:a}", model.calibration.threshold(model.alpha, c)));
  for (const char* split : {"id_test", "ood/noise"})
    dataset.source(split)->read(model.needs(), [&](const Batch& batch) {
      const auto scores = model.detector->score(batch);
      std::vector<double> p_values(scores.size());
      model.calibration.p_values(batch, scores, p_values);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        json["scores"].push_back(fmt::format("{:a}", scores[i]));
        json["p_values"].push_back(fmt::format("{:a}", p_values[i]));
      }
    });
  return json;
}

void make(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder))
    throw std::invalid_argument(folder.string() + ": is there, expected a new folder");
  std::filesystem::create_directories(folder);
  write_rows(folder / "rows.h5");
  const Dataset dataset(folder / "rows.h5");
  nlohmann::ordered_json all;
  bool by_class = false;
  for (const std::string& name : detector_names()) {
    // by class for every second one that has logits to tell classes by
    by_class = !by_class;
    const Model model =
        fit_model(make_detector(name, small_options(name)), dataset,
                  {.alpha = 0.1, .by_class = by_class, .held_out = 0.3, .exec = {.threads = 1}});
    save_model(model, folder / (name + ".ood"));
    all[name] = expected(model, dataset);
  }
  std::ofstream(folder / "expected.json") << all.dump(1) << "\n";
}

}  // namespace

int main(int count, char** arguments) {
  try {
    if (count != 2) throw std::invalid_argument("expected the folder to make");
    make(arguments[1]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
