/// Tables of text for people, on a terminal and in Markdown.
#pragma once

#include <string>
#include <vector>

namespace ood {

using Cells = std::vector<std::vector<std::string>>;  // the first row is the header

/// A name out of a file on one line of a terminal: no control characters.
std::string printable(std::string text);

/// Columns of equal width: the first to the left, numbers to the right.
std::string plain_table(Cells cells);
std::string markdown_table(Cells cells);

}  // namespace ood
