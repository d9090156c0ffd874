/// An open feature file, shared by the Dataset and the sources over its splits.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "hdf5_handle.h"
#include "ood/dataset.h"

namespace ood {

struct DatasetFile {
  hdf5::Handle handle;
  DatasetInfo info;
  std::optional<Head> head;
  /// Of splits whose labels alone tell them: they are counted once.
  mutable std::mutex counting;
  mutable std::map<std::string, Index> counted_classes;
};

/// See Dataset::source.
std::unique_ptr<BatchSource> open_source(std::shared_ptr<const DatasetFile> file,
                                         const SplitInfo& split);
std::unique_ptr<BatchSource> open_source(std::shared_ptr<const DatasetFile> file,
                                         const SplitInfo& split, Index begin, Index end,
                                         std::optional<Index> classes);

}  // namespace ood
