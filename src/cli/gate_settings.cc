#include "cli/gate_settings.h"

#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "errors.h"
#include "near_matches.h"
#include "read_text.h"

namespace ood::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostThreads = 1024;

Json parse_toml(const std::string& text, const std::string& path) {
  try {
    std::ostringstream json;  // one reader serves both: dates, nan and inf become text
    json << toml::json_formatter{toml::parse(text, path)};
    return Json::parse(json.str());
  } catch (const toml::parse_error& error) {
    throw_invalid("{}: line {}: {}", path, error.source().begin.line, error.description());
  }
}

Json parse_json(const std::string& text, const std::string& path) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw_invalid("{}: {}", path, error.what());
  }
}

/// One value of the file, by its key.
class Setting {
 public:
  Setting(const std::string& path, const std::string& key, const Json& value)
      : path_(path), key_(key), value_(value) {}

  std::vector<std::string> texts() const {
    if (value_.is_string()) return {value_.get<std::string>()};
    if (!value_.is_array() ||
        !std::ranges::all_of(value_, [](const Json& element) { return element.is_string(); }))
      fail("text or a list of texts");
    return value_.get<std::vector<std::string>>();
  }
  std::string file() const {
    if (!value_.is_string() || value_.get<std::string>().empty()) fail("the path of a file");
    return (std::filesystem::path(path_).parent_path() / value_.get<std::string>()).string();
  }
  double share() const {
    if (!value_.is_number() || !(value_.get<double>() >= 0 && value_.get<double>() <= 1))
      fail("a number from 0 to 1");
    return value_.get<double>();
  }
  bool flag() const {
    if (!value_.is_boolean()) fail("true or false");
    return value_.get<bool>();
  }
  Device device() const {
    if (!value_.is_string()) fail("cpu, cuda or cuda:<index>");
    return Device::parse(value_.get<std::string>());
  }
  int threads() const {
    if (!value_.is_number_integer() || !(value_.get<double>() >= 0) ||
        value_.get<double>() > kMostThreads)
      fail("a whole number from 0 to 1024");
    return value_.get<int>();
  }

 private:
  [[noreturn]] void fail(const char* expected) const {
    const std::string got = value_.is_structured() ? value_.type_name() : value_.dump();
    throw_invalid("{}: {} has {}, expected {}", path_, key_, got, expected);
  }

  const std::string& path_;
  const std::string& key_;
  const Json& value_;
};

struct Key {
  std::string name;
  void (*set)(GateSettings&, const Setting&);
};

const std::vector<Key>& keys() {
  static const std::vector<Key> all = {
      {"require", [](GateSettings& to, const Setting& from) { to.requirements = from.texts(); }},
      {"detector", [](GateSettings& to, const Setting& from) { to.detectors = from.texts(); }},
      {"param", [](GateSettings& to, const Setting& from) { to.options = from.texts(); }},
      {"baseline", [](GateSettings& to, const Setting& from) { to.baseline = from.file(); }},
      {"max-drop", [](GateSettings& to, const Setting& from) { to.max_drop = from.share(); }},
      {"same-rows", [](GateSettings& to, const Setting& from) { to.same_rows = from.flag(); }},
      {"junit", [](GateSettings& to, const Setting& from) { to.junit = from.file(); }},
      {"summary", [](GateSettings& to, const Setting& from) { to.summary = from.file(); }},
      {"threads", [](GateSettings& to, const Setting& from) { to.threads = from.threads(); }},
      {"device", [](GateSettings& to, const Setting& from) { to.device = from.device(); }}};
  return all;
}

}  // namespace

GateSettings read_gate_settings(const std::string& path) {
  const auto extension = std::filesystem::path(path).extension();
  if (extension != ".toml" && extension != ".json")
    throw_invalid("--config has {}, expected a file named .toml or .json", path);
  const std::string text = read_text(path);
  const Json root = extension == ".toml" ? parse_toml(text, path) : parse_json(text, path);
  if (!root.is_object())
    throw_invalid("{}: the whole has {}, expected an object", path, root.type_name());
  GateSettings settings;
  for (const auto& item : root.items()) {
    const auto key = std::ranges::find(keys(), item.key(), &Key::name);
    if (key == keys().end()) {
      std::vector<std::string> names;
      for (const Key& known : keys()) names.push_back(known.name);
      throw_invalid("{}: unknown key '{}'{}", path, item.key(), near_matches(item.key(), names));
    }
    key->set(settings, {path, key->name, item.value()});
  }
  return settings;
}

GateSettings merged(GateSettings file, const GateSettings& flags) {
  const auto append = [](std::vector<std::string>& to, const std::vector<std::string>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(file.requirements, flags.requirements);
  append(file.detectors, flags.detectors);
  append(file.options, flags.options);
  if (!flags.baseline.empty()) file.baseline = flags.baseline;
  if (!flags.junit.empty()) file.junit = flags.junit;
  if (!flags.summary.empty()) file.summary = flags.summary;
  if (flags.max_drop) file.max_drop = flags.max_drop;
  file.same_rows = file.same_rows || flags.same_rows;
  if (flags.threads) file.threads = flags.threads;
  if (flags.device) file.device = flags.device;
  return file;
}

}  // namespace ood::cli
