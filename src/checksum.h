/// Checksums of files and of arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace ood {

/// XXH3 of the bytes that were added, 128 bits as 32 hexadecimal digits.
class Checksum {
 public:
  Checksum();
  ~Checksum();
  void add(const void* bytes, std::size_t count);
  std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Of the bytes of a file from `begin` on; reads 1 MiB at a time. Throws std::runtime_error for one that
/// cannot be read.
std::string checksum(const std::filesystem::path& path, std::int64_t begin = 0);

}  // namespace ood
