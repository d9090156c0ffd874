/// RAII over the HDF5 C API: identifiers, the lock around every call, errors as exceptions.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace ood::hdf5 {

/// While it lives, only this thread of ours calls HDF5, and HDF5 prints nothing. A build of HDF5
/// need not be safe for threads, so each call is made inside a section. Sections may be nested;
/// keep them short, so that two sources can be read by turns.
class Section {
 public:
  Section();
  ~Section();
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  H5E_auto2_t print_ = nullptr;  // what the application had set, for the end of the section
  void* print_data_ = nullptr;
};

/// Owns one HDF5 identifier; may be destroyed outside of a section.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Handle() = default;
  Handle(hid_t id, Close closer) : id_(id), close_(closer) {}
  Handle(Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) close();
  }

  operator hid_t() const { return id_; }  // NOLINT: it is passed to the C API everywhere
  /// Closes the identifier now; negative if HDF5 could not.
  herr_t close();

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

/// HDF5's own words for the call that failed last, where the failure began; "" if it has none.
std::string last_error();

/// Throws std::runtime_error "<what>: <last_error>".
[[noreturn]] void throw_failure(std::string_view what);

/// The result of a call, unless it is negative, which is how HDF5 says that the call failed.
template <class Result>
Result check(Result result, std::string_view what) {
  if (result < 0) throw_failure(what);
  return result;
}

/// A handle for a new identifier, as check.
inline Handle own(hid_t id, Handle::Close closer, std::string_view what) {
  return {check(id, what), closer};
}

}  // namespace ood::hdf5
