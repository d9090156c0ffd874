#include "ood/baseline.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <span>

#include "base64.h"
#include "errors.h"
#include "read_text.h"

namespace ood {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kFormat = 1;
constexpr std::size_t kLeastRows = 2;  // of a kind: how far one alone may be off is not known
static_assert(std::endian::native == std::endian::little);

std::string encoded(const std::vector<double>& scores) {
  const std::vector<float> narrow(scores.begin(), scores.end());  // as detectors give them
  return to_base64(std::as_bytes(std::span(narrow)));
}

void require_comparable(const std::string& who, const std::vector<ReportScores>& detectors) {
  for (const ReportScores& scores : detectors) {
    const auto require_rows = [&](const std::string& set, const std::vector<double>& rows) {
      if (rows.size() < kLeastRows)
        throw_invalid("{}: {} of {} has {} rows, expected {} or more", who, set, scores.detector,
                      rows.size(), kLeastRows);
    };
    if (std::ranges::count(detectors, scores.detector, &ReportScores::detector) > 1)
      throw_invalid("{}: detectors has {} twice, expected each once", who, scores.detector);
    require_rows("id_test", scores.id_test);
    if (scores.sets.empty())
      throw_invalid("{}: {} has 0 sets, expected 1 or more", who, scores.detector);
    for (const auto& set : scores.sets) {
      if (std::ranges::count(scores.sets, set.dataset, &ReportScores::Set::dataset) > 1)
        throw_invalid("{}: {} has {} twice, expected each set once", who, scores.detector,
                      set.dataset);
      require_rows(set.dataset, set.scores);
    }
  }
}

/// An object of the file, and where it is: "detectors[0].sets[1]".
class Node {
 public:
  Node(const Json& json, std::string file, std::string where)
      : json_(json), file_(std::move(file)), where_(std::move(where)) {
    if (!json.is_object()) refuse(where_.empty() ? "the whole" : where_, json, "an object");
  }

  void require_keys(std::initializer_list<const char*> known) const {
    for (const auto& item : json_.items())
      if (std::ranges::find(known, item.key()) == known.end())
        throw_invalid("{}: {} is unknown", file_, path(item.key()));
  }
  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) refuse(path(key), value, "text");
    return value.get<std::string>();
  }
  double number(const char* key) const {
    const Json& value = at(key);
    if (!value.is_number()) refuse(path(key), value, "a number");
    return value.get<double>();
  }
  std::int64_t whole(const char* key) const {
    const Json& value = at(key);
    if (!value.is_number_integer()) refuse(path(key), value, "a whole number");
    return value.get<std::int64_t>();
  }
  Node object(const char* key) const { return {at(key), file_, path(key)}; }
  std::vector<Node> objects(const char* key) const {
    const Json& value = at(key);
    if (!value.is_array()) refuse(path(key), value, "a list");
    std::vector<Node> nodes;
    for (const Json& element : value)
      nodes.emplace_back(element, file_, fmt::format("{}[{}]", path(key), nodes.size()));
    return nodes;
  }
  OptionMap options() const {
    OptionMap map;
    for (const auto& item : json_.items()) map[item.key()] = option(item.key(), item.value());
    return map;
  }
  std::vector<double> scores() const {
    const auto bytes = from_base64(text("scores"));
    if (!bytes || bytes->size() % sizeof(float) != 0)
      fail(path("scores"), "other text", "base64 of float32 numbers");
    std::vector<float> narrow(bytes->size() / sizeof(float));
    if (!narrow.empty()) std::memcpy(narrow.data(), bytes->data(), bytes->size());
    if (const auto rows = whole("rows"); rows != std::ssize(narrow))
      fail(path("scores"), fmt::format("{} rows", narrow.size()), fmt::format("{}", rows));
    const auto nan = std::ranges::find_if(narrow, [](float x) { return std::isnan(x); });
    if (nan != narrow.end())
      fail(path("scores"), fmt::format("NaN at row {}", nan - narrow.begin()), "numbers");
    return {narrow.begin(), narrow.end()};
  }
  [[noreturn]] void fail(const std::string& where, const std::string& got,
                         const std::string& expected) const {
    throw_invalid("{}: {} has {}, expected {}", file_, where, got, expected);
  }
  std::string path(const std::string& key) const {
    return where_.empty() ? key : fmt::format("{}.{}", where_, key);
  }

 private:
  [[noreturn]] void refuse(const std::string& where, const Json& got, const char* expected) const {
    constexpr std::size_t kLongest = 40;
    std::string text = got.type_name();
    if (!got.is_structured())
      text = got.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, kLongest);
    fail(where, text, expected);
  }
  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) throw_invalid("{}: {} is missing", file_, path(key));
    return *found;
  }
  OptionValue option(const std::string& key, const Json& value) const {
    if (value.is_boolean()) return value.get<bool>();
    if (value.is_number_integer()) return value.get<Index>();
    if (value.is_number()) return value.get<double>();
    if (value.is_string()) return value.get<std::string>();
    const bool numbers = value.is_array() && std::ranges::all_of(value, [](const Json& element) {
                           return element.is_number();
                         });
    if (!numbers) refuse(path(key), value, "a number, text, true, false or a list of numbers");
    return value.get<std::vector<double>>();
  }

  const Json& json_;
  std::string file_, where_;
};

ReportScores::Set read_set(const Node& node, const std::vector<double>& id) {
  node.require_keys({"dataset", "rows", "auroc", "scores"});
  ReportScores::Set set{node.text("dataset"), node.scores()};
  if (id.size() < kLeastRows || set.scores.size() < kLeastRows) return set;  // refused later
  const double stored = node.number("auroc"), own = auroc(id, set.scores);
  if (!(std::abs(stored - own) <= 1e-12))
    node.fail(node.path("auroc"), fmt::format("{}", stored),
              fmt::format("{}, that of the scores", own));
  return set;
}

}  // namespace

Baseline make_baseline(const Report& report) {
  constexpr auto kFunction = "make_baseline";
  if (report.scores.empty())
    throw_invalid("{}: report has no scores, expected those of keep_scores", kFunction);
  require_comparable(kFunction, report.scores);
  return {report.version, report.fingerprint, report.scores};
}

std::string to_json(const Baseline& baseline) {
  Json root = {{"format", kFormat},
               {"version", baseline.version},
               {"fingerprint", baseline.fingerprint},
               {"detectors", Json::array()}};
  for (const ReportScores& scores : baseline.scores) {
    Json options = Json::object();
    for (const auto& option : scores.options)
      std::visit([&](const auto& value) { options[option.first] = value; }, option.second);
    Json sets = Json::array();
    for (const auto& set : scores.sets)
      sets.push_back({{"dataset", set.dataset},
                      {"rows", set.scores.size()},
                      {"auroc", auroc(scores.id_test, set.scores)},
                      {"scores", encoded(set.scores)}});
    root["detectors"].push_back(
        {{"detector", scores.detector},
         {"options", options},
         {"id_test", {{"rows", scores.id_test.size()}, {"scores", encoded(scores.id_test)}}},
         {"sets", sets}});
  }
  // names in a feature file may hold any bytes: what is no UTF-8 becomes a replacement character
  return root.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Baseline baseline_from_json(std::string_view text, const std::string& name) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) throw_invalid("{}: is no JSON, expected a baseline of ood gate", name);
  const Node root(json, name, "");
  if (const auto format = root.whole("format"); format != kFormat)
    throw_invalid("{}: format has {}, expected {}", name, format, kFormat);
  root.require_keys({"format", "version", "fingerprint", "detectors"});
  Baseline baseline{root.text("version"), root.text("fingerprint"), {}};
  for (const Node& node : root.objects("detectors")) {
    node.require_keys({"detector", "options", "id_test", "sets"});
    const Node id = node.object("id_test");
    id.require_keys({"rows", "scores"});
    ReportScores scores{node.text("detector"), node.object("options").options(), id.scores(), {}};
    for (const Node& set : node.objects("sets"))
      scores.sets.push_back(read_set(set, scores.id_test));
    baseline.scores.push_back(std::move(scores));
  }
  if (baseline.scores.empty()) throw_invalid("{}: detectors has 0, expected 1 or more", name);
  require_comparable(name, baseline.scores);
  return baseline;
}

Baseline read_baseline(const std::filesystem::path& path) {
  return baseline_from_json(read_text(path), path.string());
}

}  // namespace ood
