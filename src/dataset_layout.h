/// What the reader and the writer of feature files agree on.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "errors.h"
#include "ood/matrix.h"

namespace ood {

/// The groups that are a split themselves, and those whose every group is one.
inline constexpr std::array<const char*, 3> kSplits{"train", "id_val", "id_test"};
inline constexpr std::array<const char*, 3> kSplitFamilies{"ood_val", "ood", "csid"};
inline constexpr const char* kSplitNames =
    "train, id_val, id_test, ood_val/<name>, ood/<name> or csid/<name>";

/// Only sets of outliers are near or far.
inline bool has_kind(std::string_view split) {
  return split.starts_with("ood_val/") || split.starts_with("ood/");
}
inline bool is_kind(std::string_view kind) {
  return kind == "near" || kind == "far" || kind.empty();
}

/// The most values that a row may have, and the most classes: no file makes us allocate at will.
inline constexpr Index kMaxRowValues = Index{1} << 24;

/// A size that several arrays share: the first array that is seen is the reference for all others.
class SharedSize {
 public:
  /// file "features.h5", path "/train/features", unit "columns".
  void require(Index got, std::string_view file, std::string_view path, std::string_view unit) {
    if (size_ == 0) {
      size_ = got;
      path_ = path;
      unit_ = unit;
    }
    if (got != size_)
      throw_invalid("{}: {} has {} {}, expected {} as {} has{}", file, path, got, unit, size_,
                    path_, unit == unit_ ? "" : " " + unit_);
  }
  Index size() const { return size_; }  ///< 0 before the first

 private:
  Index size_ = 0;
  std::string path_, unit_;
};

}  // namespace ood
