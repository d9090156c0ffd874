#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace ood {

/// All of a file. Throws std::runtime_error for one that cannot be read, as a folder.
inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text, block(std::size_t{1} << 16, '\0');
  while (file) {
    file.read(block.data(), std::ssize(block));
    text.append(block, 0, static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) throw std::runtime_error(fmt::format("{}: cannot be read", path.string()));
  return text;
}

}  // namespace ood
