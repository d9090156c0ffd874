#include "ood/baseline.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base64.h"

using namespace ood;

namespace {

using Json = nlohmann::ordered_json;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Report report() {
  Report made{.file = "f.h5",
              .model = "",
              .id_dataset = "",
              .version = "1.2.3",
              .id_accuracy = {},
              .rows = {},
              .timings = {},
              .left_out = {}};
  made.fingerprint = "00ff";
  const OptionMap options = {{"flag", true},
                             {"k", Index{50}},
                             {"p", 2.0},
                             {"rule", std::string("mean")},
                             {"weights", std::vector<double>{0.25, 1}}};
  made.scores = {{"knn", options, {3, 2, 2.5, kInfinity}, {{"a.b", {1, 2, 0.1f}}}},
                 {"energy", {}, {1, 5, 7}, {{"a.b", {1, -kInfinity}}, {"c", {0, 1}}}}};
  return made;
}

/// What reading says of the baseline after `change`.
template <class Change>
std::string error_after(const Change& change) {
  Json json = Json::parse(to_json(make_baseline(report())));
  change(json);
  try {
    baseline_from_json(json.dump(), "b.json");
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("base64: the test vectors of RFC 4648; nothing else is read") {
  const std::pair<std::string, std::string> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) {
    const auto bytes = std::as_bytes(std::span(plain));
    CHECK(to_base64(bytes) == encoded);
    const auto back = from_base64(encoded);
    REQUIRE(back.has_value());
    CHECK(std::ranges::equal(*back, bytes));
  }
  for (const char* bad :
       {"Z", "Zg=", "Zg", "Zh==", "Z===", "====", "Zm9v\n", "Zg==Zg==", "Zm 9", "Zm9-"})
    CHECK_MESSAGE(!from_base64(bad).has_value(), bad);
}

TEST_CASE("baseline: what is written is read back with the same bits") {
  const Baseline written = make_baseline(report());
  const Baseline read = baseline_from_json(to_json(written), "b.json");
  CHECK(read.version == "1.2.3");
  CHECK(read.fingerprint == "00ff");
  REQUIRE(read.scores.size() == 2);
  for (std::size_t d = 0; d < 2; ++d) {
    CHECK(read.scores[d].detector == written.scores[d].detector);
    CHECK(read.scores[d].options == written.scores[d].options);
    CHECK(read.scores[d].id_test == written.scores[d].id_test);
    REQUIRE(read.scores[d].sets.size() == written.scores[d].sets.size());
    for (std::size_t s = 0; s < read.scores[d].sets.size(); ++s) {
      CHECK(read.scores[d].sets[s].dataset == written.scores[d].sets[s].dataset);
      CHECK(read.scores[d].sets[s].scores == written.scores[d].sets[s].scores);
    }
  }
  CHECK(to_json(read) == to_json(written));
  const Json json = Json::parse(to_json(written));
  CHECK(json["format"] == 1);
  CHECK(json["detectors"][0]["sets"][0]["rows"] == 3);
  // of 4 x 3 pairs, 2 against 2 is a tie
  CHECK(json["detectors"][0]["sets"][0]["auroc"] == 11.5 / 12);
}

TEST_CASE("baseline: a report that nothing can be compared with makes none") {
  Report none = report();
  none.scores.clear();
  CHECK_THROWS_WITH_AS(make_baseline(none),
                       "make_baseline: report has no scores, expected those of keep_scores",
                       std::invalid_argument);
  Report twice = report();
  twice.scores[1].detector = "knn";
  CHECK_THROWS_WITH_AS(make_baseline(twice),
                       "make_baseline: detectors has knn twice, expected each once",
                       std::invalid_argument);
  Report one = report();
  one.scores[1].sets[1].scores = {1};
  CHECK_THROWS_WITH_AS(make_baseline(one),
                       "make_baseline: c of energy has 1 rows, expected 2 or more",
                       std::invalid_argument);
}

TEST_CASE("baseline: a file of another content is one error that says where") {
  CHECK(error_after([](Json&) {}) == "no error");
  CHECK(error_after([](Json& j) { j["format"] = 2; }) == "b.json: format has 2, expected 1");
  CHECK(error_after([](Json& j) { j.erase("format"); }) == "b.json: format is missing");
  CHECK(error_after([](Json& j) { j["detectors"] = 3; }) ==
        "b.json: detectors has 3, expected a list");
  CHECK(error_after([](Json& j) { j["detectors"] = Json::array(); }) ==
        "b.json: detectors has 0, expected 1 or more");
  CHECK(error_after([](Json& j) { j["detectors"][0] = "knn"; }) ==
        "b.json: detectors[0] has \"knn\", expected an object");
  CHECK(error_after([](Json& j) { j["more"] = 1; }) == "b.json: more is unknown");
  CHECK(error_after([](Json& j) { j["detectors"][1]["detector"] = "knn"; }) ==
        "b.json: detectors has knn twice, expected each once");
  CHECK(error_after([](Json& j) { j["detectors"][0]["options"]["k"] = Json::object(); }) ==
        "b.json: detectors[0].options.k has object, expected a number, text, true, false or a list "
        "of numbers");
  CHECK(error_after([](Json& j) { j["detectors"][1]["sets"][1]["rows"] = 3; }) ==
        "b.json: detectors[1].sets[1].scores has 2 rows, expected 3");
  CHECK(error_after([](Json& j) { j["detectors"][1]["sets"][1]["rows"] = -1; }) ==
        "b.json: detectors[1].sets[1].scores has 2 rows, expected -1");
  CHECK(error_after([](Json& j) { j["detectors"][1]["sets"][1]["scores"] = "AAAA"; }) ==
        "b.json: detectors[1].sets[1].scores has other text, expected base64 of float32 numbers");
  CHECK(error_after([](Json& j) {
          j["detectors"][1]["sets"][1]["auroc"] = 0.25;
        }).starts_with("b.json: detectors[1].sets[1].auroc has 0.25, expected "));
  CHECK(error_after([](Json& j) { j["detectors"][0]["sets"] = Json::array(); }) ==
        "b.json: knn has 0 sets, expected 1 or more");
  CHECK(error_after([](Json& j) { j["detectors"][1]["sets"][1]["dataset"] = "a.b"; }) ==
        "b.json: energy has a.b twice, expected each set once");
  CHECK(error_after([](Json& j) {
          const float nan[] = {1, std::numeric_limits<float>::quiet_NaN()};
          j["detectors"][1]["sets"][1]["scores"] = to_base64(std::as_bytes(std::span(nan)));
        }) == "b.json: detectors[1].sets[1].scores has NaN at row 1, expected numbers");
  const std::string texts[] = {"", "no", "{\"format\": 1", std::string(200'000, '[')};
  for (const std::string& text : texts)
    CHECK_THROWS_WITH_AS(baseline_from_json(text, "b.json"),
                         "b.json: is no JSON, expected a baseline of ood gate",
                         std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      baseline_from_json(std::string(200'000, '[') + std::string(200'000, ']'), "b.json"),
      "b.json: the whole has array, expected an object", std::invalid_argument);
}

TEST_CASE("baseline: a file that cannot be read is said so") {
  const auto folder = std::filesystem::temp_directory_path();
  CHECK_THROWS_AS(read_baseline(folder), std::runtime_error);
  CHECK_THROWS_AS(read_baseline(folder / "no_such_baseline.json"), std::runtime_error);
}
