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

PartialFile::PartialFile(const std::filesystem::path& path) : path_(path) {
  std::error_code none;
  if (std::filesystem::exists(path, none)) {
    if (!std::filesystem::is_regular_file(path, none))
      throw std::runtime_error(
          fmt::format("{}: cannot be written: there is something that is no file", path.string()));
    path_ = std::filesystem::canonical(path);
  }
  partial_ = path_;
  partial_ += fmt::format(".{:08x}.partial", std::random_device{}());
}

void PartialFile::publish() {
  std::error_code error(sync(partial_), std::generic_category());
  std::error_code none;
  if (const auto before = std::filesystem::status(path_, none);
      std::filesystem::is_regular_file(before))
    std::filesystem::permissions(partial_, before.permissions(), none);
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
