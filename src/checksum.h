/// Checksums of files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace ood {

/// XXH3 of the bytes of a file from `begin` on, 128 bits as 32 hexadecimal digits; reads 1 MiB at a
/// time. Throws std::runtime_error for one that cannot be read.
std::string checksum(const std::filesystem::path& path, std::int64_t begin = 0);

}  // namespace ood
