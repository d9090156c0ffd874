// Model files of every version that was released, compatibility/v<N>, are read by this one, and decide as they
// did: what they hold was found when they were written, before they were saved.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "ood/dataset.h"
#include "ood/model_file.h"
#include "ood/registry.h"

using namespace ood;

namespace {

std::vector<std::filesystem::path> versions() {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry :
       std::filesystem::directory_iterator(OOD_SOURCE_DIR "/tests/compatibility"))
    if (entry.is_directory()) folders.push_back(entry.path());
  std::ranges::sort(folders);
  return folders;
}

nlohmann::json expected_of(const std::filesystem::path& folder) {
  return nlohmann::json::parse(std::ifstream(folder / "expected.json"));
}

/// As printf's %a writes it: all bits.
double number(const nlohmann::json& text) {
  return std::strtod(text.get<std::string>().c_str(), nullptr);
}

/// Instruction sets round differently: what that does to a score, of the size that scores have here.
double bound(double score) { return 1e-4 * (1 + std::abs(score)); }

void check_options(const Model& model, const nlohmann::json& expected) {
  const auto options = model.detector->options();
  for (auto option = expected.begin(); option != expected.end(); ++option) {
    const std::string name = option.key();
    CAPTURE(name);
    const auto found = std::ranges::find(options, name, &OptionInfo::name);
    REQUIRE(found != options.end());
    CHECK(to_text(found->value) == option->get<std::string>());
  }
}

void check_scores(const Model& model, const nlohmann::json& expected, const Dataset& dataset) {
  std::size_t first = 0;
  for (const char* split : {"id_test", "ood/noise"})
    dataset.source(split)->read(model.needs(), [&](const Batch& batch) {
      const auto scores = model.detector->score(batch);
      std::vector<float> low, high;
      for (const float score : scores) {
        const std::size_t row = first + low.size();
        CAPTURE(row);
        const double want = number(expected.at("scores").at(row));
        CHECK(std::abs(static_cast<double>(score) - want) <= bound(want));
        low.push_back(static_cast<float>(want - bound(want)));
        high.push_back(static_cast<float>(want + bound(want)));
      }
      // p-values rise with the score
      std::vector<double> least(scores.size()), most(scores.size()), got(scores.size());
      model.calibration.p_values(batch, low, least);
      model.calibration.p_values(batch, high, most);
      model.calibration.p_values(batch, scores, got);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        const double want = number(expected.at("p_values").at(first + i));
        CHECK(least[i] <= want);
        CHECK(want <= most[i]);
        CHECK(least[i] <= got[i]);
        CHECK(got[i] <= most[i]);
      }
      first += scores.size();
    });
  CHECK(first == 24);
  CHECK(first == expected.at("scores").size());
}

}  // namespace

TEST_CASE("compatibility: every detector of the first version is there") {
  REQUIRE(!versions().empty());
  const auto expected = expected_of(versions().front());
  CHECK(expected.size() == 57);
  const auto names = detector_names();
  for (auto model = expected.begin(); model != expected.end(); ++model)
    CHECK(std::ranges::find(names, model.key()) != names.end());
}

TEST_CASE("compatibility: options, scores, p-values and thresholds of kept model files") {
  for (const auto& folder : versions()) {
    const Dataset dataset(folder / "rows.h5");
    const auto all = expected_of(folder);
    for (auto each = all.begin(); each != all.end(); ++each) {
      const std::string name = each.key(), version = folder.filename().string();
      CAPTURE(version);
      CAPTURE(name);
      const nlohmann::json& expected = *each;
      const Model model = load_model(folder / (name + ".ood"));
      REQUIRE(model.detector->name() == name);
      check_options(model, expected.at("options"));
      CHECK(model.alpha == 0.1);
      REQUIRE(model.calibration.by_class() == expected.at("by_class").get<bool>());
      const auto& thresholds = expected.at("thresholds");
      for (std::size_t c = 0; c < thresholds.size(); ++c)
        CHECK(model.calibration.threshold(model.alpha, static_cast<Index>(c)) ==
              number(thresholds[c]));
      check_scores(model, expected, dataset);
    }
  }
}
