#include "hdf5_handle.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace ood::hdf5 {

namespace {

std::recursive_mutex& hdf5_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

/// Keeps the first record of a walk that begins where the failure was found.
herr_t keep_first(unsigned, const H5E_error2_t* record, void* text) {
  auto& description = *static_cast<std::string*>(text);
  if (description.empty() && record->desc != nullptr) description = record->desc;
  return 0;
}

}  // namespace

Section::Section() : lock_(hdf5_mutex()) {
  H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Section::~Section() { H5Eset_auto2(H5E_DEFAULT, print_, print_data_); }

herr_t Handle::close() {
  const Section section;
  return close_(std::exchange(id_, H5I_INVALID_HID));
}

std::string last_error() {
  std::string description;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &description);
  // of a failed system call it tells the time, offsets, pointers, and among them why
  constexpr std::string_view reason = "error message = '";
  if (const std::size_t at = description.find(reason); at != description.npos) {
    description.erase(0, at + reason.size());
    description.erase(std::min(description.find('\''), description.size()));
  }
  return description;
}

void throw_failure(std::string_view what) {
  const std::string reason = last_error();
  throw std::runtime_error(reason.empty() ? std::string(what)
                                          : fmt::format("{}: {}", what, reason));
}

}  // namespace ood::hdf5
