/// Model files that were changed by hand.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "checksum.h"

namespace ood::test {

inline constexpr std::int64_t kModelHeaderBytes = 512;

/// Writes a header that is right for the bytes behind it: what HDF5 and we read after it is no accident
/// then, but meant.
inline void seal_model(const std::filesystem::path& path, const std::string& format = "1") {
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  if (bytes < kModelHeaderBytes) return;
  std::string header =
      fmt::format("libood model\nformat {}\nbytes {}\nxxh3 {}\nHDF5 begins at byte 512.\n", format,
                  bytes, checksum(path, kModelHeaderBytes));
  header.resize(static_cast<std::size_t>(kModelHeaderBytes), '\0');
  std::fstream(path, std::ios::binary | std::ios::in | std::ios::out) << header;
}

}  // namespace ood::test
