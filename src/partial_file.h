/// A file that is written under another name until it is whole.
#pragma once

#include <filesystem>
#include <string>

namespace ood {

/// A name beside `path` that nobody else uses: `<path>.<8 random digits>.partial`. What lies there is
/// removed in the end, unless publish() made it `path`. Where `path` is a link to a file, that file is
/// meant, and the link stays.
class PartialFile {
 public:
  /// Throws std::runtime_error if there is something else than a regular file: a folder, a pipe, a device.
  explicit PartialFile(const std::filesystem::path& path);
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile() { discard(); }

  /// Empty after publish() and discard().
  const std::filesystem::path& partial() const { return partial_; }
  /// Makes the file, which is written and closed, `path`, with the permissions of the file before it. Its bytes are on the disk before its name is, so
  /// that a machine that loses power has the old file or the new one.
  /// Throws std::runtime_error "<path>: cannot be written: <reason>".
  void publish();
  void discard() noexcept;

 private:
  std::filesystem::path path_, partial_;
};

}  // namespace ood
