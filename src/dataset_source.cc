#include <algorithm>
#include <array>
#include <exception>
#include <semaphore>
#include <thread>

#include "dataset_file.h"
#include "dataset_layout.h"
#include "dataset_rows.h"

namespace ood {

namespace {

constexpr Index kMaxBlockRows = 16384;
// Two blocks stay in cache; with chunks there is to be one for more than one thread in each.
constexpr Index kBlockBytes = 4 << 20, kChunkedBlockBytes = 16 << 20;
constexpr hsize_t kMaxCacheBytes = 256 << 20;
constexpr Index kMaxBlockChunks = 4096;  // HDF5 takes some 8 KB for each one that a read touches

/// Room in HDF5's cache for the chunks that one row runs through, so that each is decompressed once
/// however the blocks cut it. One chunk is in memory anyway, however large.
hdf5::Handle chunk_cache(hid_t file, const std::string& path, const Field& field) {
  const hdf5::Handle array = hdf5::own(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose, path);
  hdf5::Handle access = hdf5::own(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, path);
  const std::vector<hsize_t> chunk = hdf5::chunk_shape(array);
  if (chunk.empty()) return access;
  const hdf5::Handle type = hdf5::own(H5Dget_type(array), H5Tclose, path);
  hsize_t bytes = H5Tget_size(type), chunks = 1;
  for (std::size_t axis = 0; axis < chunk.size(); ++axis) {
    bytes *= chunk[axis];
    if (axis != field.row_axis()) chunks *= (field.shape[axis] + chunk[axis] - 1) / chunk[axis];
  }
  const std::size_t slots = std::clamp<std::size_t>(4 * chunks + 1, 521, 1 << 20);
  const hsize_t cache = std::max(bytes, std::min(bytes * chunks, kMaxCacheBytes));
  hdf5::check(H5Pset_chunk_cache(access, slots, cache, 1.0), path);
  return access;
}

/// Rows in a block: bounded in number and bytes, a multiple of the largest chunk that fits.
Index block_rows(const std::vector<FieldArray>& arrays) {
  const hdf5::Section section;
  Index row_bytes = 0;
  for (const auto& [field, array, dtype, chunks] : arrays)
    row_bytes += field.copies() * field.width() * (field.name == "labels" ? 8 : 4);
  const bool chunked = std::ranges::any_of(
      arrays, [](const FieldArray& array) { return !hdf5::chunk_shape(array.array.id).empty(); });
  Index most =
      std::clamp<Index>((chunked ? kChunkedBlockBytes : kBlockBytes) / row_bytes, 1, kMaxBlockRows);
  for (const auto& [field, array, dtype, chunks] : arrays)
    if (const auto chunk = hdf5::chunk_shape(array.id); !chunk.empty()) {
      Index across = 1;  // chunks that one row runs through
      for (std::size_t axis = 0; axis < chunk.size(); ++axis)
        if (axis != field.row_axis())
          across *= static_cast<Index>((field.shape[axis] + chunk[axis] - 1) / chunk[axis]);
      const auto rows =
          static_cast<Index>(std::min<hsize_t>(chunk[field.row_axis()], kMaxBlockRows));
      most = std::min(most, std::max<Index>(1, kMaxBlockChunks / across) * rows);
    }
  Index chunk_rows = 1;
  for (const auto& [field, array, dtype, chunks] : arrays)
    if (const auto chunk = hdf5::chunk_shape(array.id); !chunk.empty())
      if (const auto rows = static_cast<Index>(chunk[field.row_axis()]); rows <= most)
        chunk_rows = std::max(chunk_rows, rows);
  return most - most % chunk_rows;
}

class FileSource final : public BatchSource {
 public:
  FileSource(std::shared_ptr<const DatasetFile> file, const SplitInfo& split,
             std::optional<Index> classes = {})
      : file_(std::move(file)), group_("/" + split.name), info_(split.source) {
    if (info_.classes == 0 && info_.has.labels)
      info_.classes = classes ? *classes : classes_of_labels();
  }

  void restrict_to(Index begin, Index end) {
    if (begin < 0 || begin >= end || end > info_.rows)
      throw_invalid("{}: rows {} to {} are asked for, expected some of its {}", info_.name, begin,
                    end, info_.rows);
    info_.name = fmt::format("{}, rows from {}", info_.name, begin);
    info_.rows = end - begin;
    begin_ = begin;
  }

  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return file_->head ? &*file_->head : nullptr; }

  void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) override {
    const std::vector<FieldArray> arrays = open(wanted);
    if (arrays.empty()) return;
    const Index block = std::min(block_rows(arrays), info_.rows);
    std::array buffers{BatchBuffer(info_, wanted, block), BatchBuffer(info_, wanted, block)};
    const auto fill = [&](BatchBuffer& buffer, Index begin) {
      const Index count = std::min(block, info_.rows - begin);
      buffer.clear(begin);
      for (const FieldArray& array : arrays) read_rows(array, begin_ + begin, count, buffer);
      buffer.set_rows(count);
    };

    if (block == info_.rows) {
      fill(buffers[0], 0);
      return visit(buffers[0].view());
    }

    // Filled in turns by one thread, so that there is one OpenMP team of it; a failure is told when it is its block's
    // turn.
    std::counting_semaphore<> to_fill(2), filled(0);
    std::array<std::exception_ptr, 2> failures;
    const std::jthread reader([&](const std::stop_token& stop) {
      const std::stop_callback wake(stop, [&] { to_fill.release(); });  // visit has thrown
      std::size_t turn = 0;
      for (Index begin = 0; begin < info_.rows; begin += block, turn = 1 - turn) {
        to_fill.acquire();
        if (stop.stop_requested()) return;
        try {
          fill(buffers[turn], begin);
        } catch (...) {
          failures[turn] = std::current_exception();
        }
        filled.release();
        if (failures[turn]) return;
      }
    });
    std::size_t turn = 0;
    for (Index begin = 0; begin < info_.rows; begin += block, turn = 1 - turn) {
      filled.acquire();
      if (failures[turn]) std::rethrow_exception(failures[turn]);
      visit(buffers[turn].view());
      to_fill.release();
    }
  }

 private:
  std::vector<FieldArray> open(const Inputs& wanted) const {
    const hdf5::Section section;
    const std::string file = file_->info.path.string();
    SourceInfo whole = info_;
    whole.rows = file_rows_;
    std::vector<FieldArray> arrays;
    for (Field& field : fields_of(whole, wanted)) {
      const std::string path = group_ + "/" + field.name;
      const hdf5::Handle access = chunk_cache(file_->handle, path, field);
      hdf5::Object array{
          hdf5::own(H5Dopen2(file_->handle, path.c_str(), access), H5Dclose, file + ": " + path),
          file, path};
      arrays.push_back(open_for_reading(std::move(field), std::move(array)));
    }
    return arrays;
  }

  Index classes_of_labels() {
    const std::lock_guard lock(file_->counting);
    const auto known = file_->counted_classes.find(group_);
    if (known != file_->counted_classes.end()) return known->second;
    return file_->counted_classes[group_] = count_classes();
  }

  Index count_classes() {
    Index classes = 0;
    read({.labels = true}, [&](const Batch& batch) {
      for (Index i = 0; i < batch.rows(); ++i) {
        const std::int64_t label = (*batch.labels)[static_cast<std::size_t>(i)];
        if (label >= kMaxRowValues)
          throw_invalid("{}: {}/labels has {} at row {}, expected less than {}",
                        file_->info.path.string(), group_, label, batch.first_row + i,
                        kMaxRowValues);
        classes = std::max<Index>(classes, label + 1);
      }
    });
    return classes;
  }

  std::shared_ptr<const DatasetFile> file_;
  std::string group_;
  SourceInfo info_;
  Index file_rows_ = info_.rows;
  Index begin_ = 0;  // the row of the file that row 0 is
};

}  // namespace

std::unique_ptr<BatchSource> open_source(std::shared_ptr<const DatasetFile> file,
                                         const SplitInfo& split) {
  return std::make_unique<FileSource>(std::move(file), split);
}

std::unique_ptr<BatchSource> open_source(std::shared_ptr<const DatasetFile> file,
                                         const SplitInfo& split, Index begin, Index end,
                                         std::optional<Index> classes) {
  auto source = std::make_unique<FileSource>(std::move(file), split, classes);
  source->restrict_to(begin, end);
  return source;
}

}  // namespace ood
