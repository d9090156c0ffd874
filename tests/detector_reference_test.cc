// Every detector against float64 transcriptions of its formula by numpy, scipy and scikit-learn
// (tests/reference/make_reference.py), scores and state.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "ood/dataset.h"
#include "ood/registry.h"

using namespace ood;
using nlohmann::json;

namespace {

const std::string kReference = OOD_SOURCE_DIR "/tests/reference/";

/// The numbers in a detector's state, by name.
class StateValues : public FieldVisitor {
 public:
  std::map<std::string, std::vector<double>> values;

  void state(std::string_view name, Index& value) override {
    values[std::string(name)] = {static_cast<double>(value)};
  }
  void state(std::string_view name, double& value) override { values[std::string(name)] = {value}; }
  void state(std::string_view name, VectorD& value) override {
    values[std::string(name)].assign(value.data(), value.data() + value.size());
  }
  void state(std::string_view name, std::vector<Index>& value) override {
    values[std::string(name)].assign(value.begin(), value.end());
  }
};

OptionMap options_of(const json& object) {
  OptionMap options;
  for (const auto& [name, value] : object.items()) {
    if (value.is_boolean())
      options[name] = value.get<bool>();
    else if (value.is_number_integer())
      options[name] = value.get<Index>();
    else if (value.is_number())
      options[name] = value.get<double>();
    else if (value.is_array())
      options[name] = value.get<std::vector<double>>();
    else
      options[name] = value.get<std::string>();
  }
  return options;
}

Batch read_all(BatchSource& source, BatchBuffer& buffer) {
  source.read(source.info().has, [&](const Batch& batch) { buffer.append(batch); });
  return buffer.view();
}

/// The numbers of an array, or the one; JSON has no NaN: null stands for it.
std::vector<double> numbers_of(const json& value) {
  std::vector<double> numbers;
  for (const json& number : value.is_array() ? value : json::array({value}))
    numbers.push_back(number.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                       : number.get<double>());
  return numbers;
}

/// State is float64, apart from what is made of float32 exponents: that has an entry in `atol`.
void check_state(Detector& detector, const json& expected, const json& atol) {
  StateValues state;
  detector.visit(state);
  for (const auto& item : expected.items()) {
    const std::string& name = item.key();
    CAPTURE(name);
    const auto got = state.values.find(name);
    REQUIRE(got != state.values.end());
    const auto want = numbers_of(item.value());
    REQUIRE(got->second.size() == want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      const double allowed = atol.value(name, 0.0) + 1e-6 * std::abs(want[i]);
      const bool both_nan = std::isnan(want[i]) && std::isnan(got->second[i]);
      CHECK_MESSAGE((both_nan || std::abs(got->second[i] - want[i]) <= allowed), "got ",
                    got->second[i], ", expected ", want[i], " to ", allowed);
    }
  }
}

}  // namespace

TEST_CASE("scores and state agree with the float64 reference") {
  const json reference = json::parse(std::ifstream(kReference + "scores.json"));
  REQUIRE(reference.at("cases").size() > 20);
  for (const json& test : reference.at("cases")) {
    const auto name = test.at("name").get<std::string>();
    CAPTURE(name);
    const Dataset dataset(kReference + test.at("file").get<std::string>());
    const auto detector =
        make_detector(test.at("detector").get<std::string>(), options_of(test.at("options")));
    const FitSources sources(dataset);
    detector->fit(sources.data());
    const double rtol = test.at("rtol"), atol = test.at("atol");
    if (test.contains("state"))
      check_state(*detector, test.at("state"), test.value("state_atol", json::object()));

    double worst = 0;
    for (const auto& item : test.at("scores").items()) {
      const std::string& split = item.key();
      const json& values = item.value();
      CAPTURE(split);
      const auto source = dataset.source(split);
      BatchBuffer buffer(source->info(), source->info().has, source->info().rows);
      const auto scores = detector->score(read_all(*source, buffer));
      const auto want = values.get<std::vector<double>>();
      REQUIRE(scores.size() == want.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        CAPTURE(i);
        const double error = std::abs(static_cast<double>(scores[i]) - want[i]);
        const double allowed = atol + rtol * std::abs(want[i]);
        CHECK_MESSAGE(error <= allowed, "got ", scores[i], ", expected ", want[i]);
        worst = std::max(worst, allowed > 0 ? error / allowed : 0.0);
      }
    }
    MESSAGE(name, ": worst error is ", worst, " of what is allowed");
  }
}
