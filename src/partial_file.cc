#include "partial_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <random>
#include <stdexcept>
#include <system_error>

namespace ood {

namespace {

/// Waits until a file or the names in a folder are on the disk; 0, or the reason why not.
int sync(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno;
  const int error = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  return error;
}

}  // namespace

PartialFile::PartialFile(const std::filesystem::path& path) : path_(path), partial_(path) {
  partial_ += fmt::format(".{:08x}.partial", std::random_device{}());
}

void PartialFile::publish() {
  std::error_code error(sync(partial_), std::generic_category());
  if (!error) std::filesystem::rename(partial_, path_, error);
  if (error)
    throw std::runtime_error(
        fmt::format("{}: cannot be written: {}", path_.string(), error.message()));
  partial_.clear();
  sync(path_.has_parent_path() ? path_.parent_path() : ".");  // not every file system can
}

void PartialFile::discard() noexcept {
  std::error_code ignored;
  if (!partial_.empty()) std::filesystem::remove(partial_, ignored);
  partial_.clear();
}

}  // namespace ood
