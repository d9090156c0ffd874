/// Hostile HDF5 files for the fuzzers: the bytes of an input are a file, or a script that edits a valid one.
///
/// Random bytes seldom get past HDF5's own checks. A script is a list of operations of HDF5 itself (delete,
/// link, retype, reshape, overwrite, ...), so that most of its files are sound HDF5 and wrong for us.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace ood::fuzz {

using Bytes = std::vector<std::uint8_t>;

/// A name in memory (/dev/shm) that no other process has; new after each call, as HDF5 tells files apart by
/// their number. What the name before stood for is removed.
std::filesystem::path scratch_path();
Bytes read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);

/// The next choices of a script; zeros after its end.
class Script {
 public:
  explicit Script(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  bool ended() const { return bytes_.empty(); }
  std::uint8_t byte();
  std::size_t below(std::size_t count) { return byte() % count; }
  /// Sizes that are likely to hurt: 0, 1, powers of two up to 2^63, those of the file.
  std::uint64_t size();

 private:
  std::span<const std::uint8_t> bytes_;
};

/// Edits the HDF5 file as the script says, 16 operations at most.
/// In a process of its own, as HDF5 crashes on writing some files that it was made to edit: false then.
bool edit(const std::filesystem::path& path, Script& script);

/// Whether reading the file goes through code of libhdf5 1.10 that is known to crash or hang on damaged files,
/// see README.md: texts of variable length in attributes, filters that HDF5 undoes (the reader undoes gzip and shuffle), and
/// groups of more than 8 links (dense).
bool reaches_known_faults(const std::filesystem::path& path);

/// Runs `read`, which may throw what the library says it throws, and nothing else.
void expect_errors(const std::function<void()>& read);

}  // namespace ood::fuzz
