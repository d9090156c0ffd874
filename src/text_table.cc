#include "text_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace ood {

namespace {

std::vector<std::size_t> widths(const Cells& cells) {
  std::vector<std::size_t> widths(cells[0].size(), 0);
  for (const auto& line : cells)
    for (std::size_t j = 0; j < line.size(); ++j) widths[j] = std::max(widths[j], line[j].size());
  return widths;
}

/// A cell of a Markdown table.
std::string escaped(const std::string& cell) {
  std::string text;
  for (const char c : cell) {
    if (c == '|') text += '\\';
    text += c;
  }
  return text;
}

}  // namespace

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

std::string plain_table(Cells cells) {
  const auto width = widths(cells);
  std::string text;
  for (const auto& line : cells) {
    text += fmt::format("{:<{}}", line[0], width[0]);
    for (std::size_t j = 1; j < line.size(); ++j)
      text += fmt::format("  {:>{}}", line[j], width[j]);
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::string markdown_table(Cells cells) {
  for (auto& line : cells)
    for (std::string& cell : line) cell = escaped(cell);
  const auto width = widths(cells);
  std::string text;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    text += fmt::format("| {:<{}} |", cells[i][0], width[0]);
    for (std::size_t j = 1; j < cells[i].size(); ++j)
      text += fmt::format(" {:>{}} |", cells[i][j], width[j]);
    text += '\n';
    if (i > 0) continue;
    text += fmt::format("|{:-<{}}|", ":", width[0] + 2);
    for (std::size_t j = 1; j < width.size(); ++j)
      text += fmt::format("{:->{}}|", ":", width[j] + 2);
    text += '\n';
  }
  return text;
}

}  // namespace ood
