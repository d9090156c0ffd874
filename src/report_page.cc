#include "report_page.h"

#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "ood/report.h"

namespace ood {

namespace {

using Json = nlohmann::ordered_json;

/// Numbers that are only drawn: five digits, which is finer than any screen.
void round_numbers(Json& value) {
  if (value.is_number_float())
    value = std::strtod(fmt::format("{:.5g}", value.get<double>()).c_str(), nullptr);
  else if (value.is_structured())
    for (Json& child : value) round_numbers(child);
}

/// JSON that may stand in a <script>: names out of a file cannot end it, as they hold no '<'.
std::string embedded(const Report& report) {
  Json root = Json::parse(to_json(report));
  if (root.contains("curves"))
    for (Json& curve : root["curves"]) round_numbers(curve["roc"]);
  if (root.contains("agreement")) round_numbers(root["agreement"]);
  std::string text;
  for (const char c : root.dump()) {
    if (c == '<')
      text += "\\u003c";
    else
      text += c;
  }
  return text;
}

}  // namespace

std::string to_html(const Report& report) {
  const std::string data = embedded(report);
  std::string page;
  std::string_view rest = report_page::kHtml;
  const auto insert = [&](std::string_view mark, std::string_view part) {
    const auto at = rest.find(mark);
    page += rest.substr(0, at);
    page += part;
    rest.remove_prefix(at + mark.size());
  };
  insert("<!--css-->", report_page::kCss);
  insert("<!--chart.js-->", report_page::kChartJs);
  insert("<!--data-->", data);
  insert("<!--js-->", report_page::kJs);
  page += rest;
  return page;
}

}  // namespace ood
