#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ood/gate.h"
#include "text_table.h"

namespace ood {

namespace {

using Json = nlohmann::ordered_json;

std::string number(double value) { return fmt::format("{:.4f}", value); }

std::string brackets(const Interval& interval) {
  return fmt::format("[{}, {}]", number(interval.low), number(interval.high));
}

/// Of a failure, which must not look as if it met the bound that it just missed.
std::string exact(double value) { return fmt::format("{:.6g}", value); }

std::string required(const Requirement& requirement) {
  return fmt::format("{} {}", requirement.op, requirement.bound);
}

std::string p_text(double p) { return fmt::format("{:.2g}", p); }

const char* word(bool holds) { return holds ? "pass" : "FAIL"; }

std::string name(const DropCheck& drop) { return fmt::format("{}.{}", drop.detector, drop.set); }

/// "digits.h5: all 5 checks hold"
std::string heading(const GateResult& result) {
  const Index failed = result.failed(), checks = result.checks();
  const char* plural = checks == 1 ? "" : "s";
  return printable(
      failed == 0
          ? fmt::format("{}: {} check{}, all hold", result.file, checks, plural)
          : fmt::format("{}: {} of {} check{} failed", result.file, failed, checks, plural));
}

std::string drop_heading(const GateResult& result) {
  return fmt::format(
      "AUROC against the baseline, {}; fails: a drop above {}, p <= 0.05",
      result.paired ? "on the same rows (paired test)" : "on other rows (unpaired test)",
      result.max_drop);
}

Cells requirement_cells(const GateResult& result) {
  Cells cells = {{"requirement", "required", "got", "95 % interval", "result"}};
  for (const RequirementCheck& check : result.requirements)
    cells.push_back({printable(check.requirement.name()), required(check.requirement),
                     number(check.got), check.interval ? brackets(*check.interval) : "",
                     word(check.holds)});
  return cells;
}

Cells drop_cells(const GateResult& result) {
  Cells cells = {{"AUROC", "baseline", "now", "drop", "95 % interval", "p", "result"}};
  for (const DropCheck& check : result.drops)
    cells.push_back({printable(name(check)), number(check.before), number(check.now),
                     number(check.drop.value), brackets(check.drop), p_text(check.p_value),
                     word(check.holds)});
  return cells;
}

/// One line for each check that failed.
std::vector<std::string> failures(const GateResult& result) {
  std::vector<std::string> lines;
  for (const RequirementCheck& check : result.requirements)
    if (!check.holds)
      lines.push_back(printable(fmt::format("{}: {}", check.requirement.name(), to_text(check))));
  for (const DropCheck& check : result.drops)
    if (!check.holds)
      lines.push_back(
          printable(fmt::format("{}: {}", name(check), to_text(check, result.max_drop))));
  return lines;
}

std::string sections(const GateResult& result, std::string (*render)(Cells), const char* bullet) {
  std::string text = fmt::format("{}\n", heading(result));
  if (!result.requirements.empty()) text += fmt::format("\n{}", render(requirement_cells(result)));
  if (!result.drops.empty())
    text += fmt::format("\n{}\n\n{}", drop_heading(result), render(drop_cells(result)));
  if (!result.notes.empty() || !result.holds()) text += '\n';
  for (const std::string& note : result.notes)
    text += fmt::format("{}note: {}\n", bullet, printable(note));
  for (const std::string& line : failures(result))
    text += fmt::format("{}failed: {}\n", bullet, line);
  return text;
}

Json json_of(const std::optional<Interval>& interval) {
  return interval ? Json{interval->low, interval->high} : Json();
}

/// Valid UTF-8 of characters that XML 1.0 allows, in a quoted attribute.
std::string xml(const std::string& text) {
  const auto utf8 = Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace))
                        .get<std::string>();
  std::string escaped;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const char c = utf8[i];
    const std::string_view rest = std::string_view(utf8).substr(i);
    if (c == '&')
      escaped += "&amp;";
    else if (c == '<')
      escaped += "&lt;";
    else if (c == '>')
      escaped += "&gt;";
    else if (c == '"')
      escaped += "&quot;";
    else if (c == '\'')
      escaped += "&apos;";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      escaped += '?';
    else if (rest.starts_with("\xEF\xBF\xBE") ||
             rest.starts_with("\xEF\xBF\xBF")) {  // no characters
      escaped += '?';
      i += 2;
    } else {
      escaped += c;
    }
  }
  return escaped;
}

struct Case {
  std::string group, title, failure;  // failure: "" where it holds
};

std::string suite(const char* title, const std::vector<Case>& cases) {
  if (cases.empty()) return {};
  const auto failed =
      std::ranges::count_if(cases, [](const Case& one) { return !one.failure.empty(); });
  std::string text = fmt::format(
      "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" "
      "time=\"0\">\n",
      title, cases.size(), failed);
  for (const Case& one : cases) {
    text += fmt::format("    <testcase classname=\"{}\" name=\"{}\" time=\"0\"", xml(one.group),
                        xml(one.title));
    text += one.failure.empty()
                ? "/>\n"
                : fmt::format(
                      ">\n      <failure message=\"{0}\" type=\"{1}\">{0}</failure>\n"
                      "    </testcase>\n",
                      xml(one.failure), title);
  }
  return text + "  </testsuite>\n";
}

}  // namespace

std::string to_text(const RequirementCheck& check) {
  std::string text =
      fmt::format("required {}, got {}", required(check.requirement), exact(check.got));
  if (check.interval) text += fmt::format(", 95 % interval {}", brackets(*check.interval));
  return text;
}

std::string to_text(const DropCheck& check, double max_drop) {
  return fmt::format(
      "AUROC required to drop by {} at most, got {} (from {} to {}), 95 % interval {}, p = {}",
      max_drop, exact(check.drop.value), exact(check.before), exact(check.now),
      brackets(check.drop), p_text(check.p_value));
}

std::string to_table(const GateResult& result) { return sections(result, plain_table, ""); }

std::string to_markdown(const GateResult& result) {
  return fmt::format("### {}", sections(result, markdown_table, "- "));
}

std::string to_json(const GateResult& result) {
  Json root = {{"file", result.file},
               {"version", result.version},
               {"holds", result.holds()},
               {"requirements", Json::array()},
               {"max_drop", result.max_drop},
               {"paired", result.drops.empty() ? Json() : Json(result.paired)},
               {"drops", Json::array()},
               {"notes", result.notes}};
  for (const RequirementCheck& check : result.requirements)
    root["requirements"].push_back({{"requirement", check.requirement.name()},
                                    {"op", check.requirement.op},
                                    {"bound", check.requirement.bound},
                                    {"got", check.got},
                                    {"interval", json_of(check.interval)},
                                    {"holds", check.holds}});
  for (const DropCheck& check : result.drops)
    root["drops"].push_back({{"detector", check.detector},
                             {"dataset", check.set},
                             {"before", check.before},
                             {"now", check.now},
                             {"drop", check.drop.value},
                             {"interval", json_of(check.drop)},
                             {"p_value", check.p_value},
                             {"holds", check.holds}});
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string to_junit(const GateResult& result) {
  std::vector<Case> requirements, drops;
  for (const RequirementCheck& check : result.requirements) {
    const Requirement& asked = check.requirement;
    requirements.push_back({asked.detector.empty() ? "network" : asked.detector,
                            fmt::format("{} {}", asked.name(), required(asked)),
                            check.holds ? "" : to_text(check)});
  }
  for (const DropCheck& check : result.drops)
    drops.push_back({check.detector, fmt::format("{} against the baseline", name(check)),
                     check.holds ? "" : to_text(check, result.max_drop)});
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ood gate\" tests=\"{}\" "
      "failures=\"{}\" errors=\"0\" time=\"0\">\n{}{}</testsuites>\n",
      result.checks(), result.failed(), suite("requirement", requirements),
      suite("baseline", drops));
}

}  // namespace ood
