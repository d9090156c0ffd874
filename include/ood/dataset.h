/// The HDF5 feature file: open, inspect, stream, write. The layout is in docs/feature-file.md.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ood/batch.h"

namespace ood {

/// One array as it lies in the file.
struct ArrayInfo {
  std::string path;                 ///< "/train/features"
  std::vector<std::int64_t> shape;  ///< [n, D]
  std::string dtype;                ///< "float32", "int64", ...
  std::string storage;              ///< "contiguous", "chunks 1024 x 342, shuffle, gzip"
  std::int64_t bytes = 0;           ///< on disk
};

/// One group of rows: train, id_val, id_test, ood_val/<name>, ood/<name>, csid/<name>.
struct SplitInfo {
  std::string name;   ///< "train", "ood/svhn"
  std::string kind;   ///< "near", "far", or "" where the file does not say
  SourceInfo source;  ///< what is in it; source.has.head says whether the file has a head
};

struct DatasetInfo {
  std::filesystem::path path;
  std::string model;       ///< root attribute; "" where absent
  std::string id_dataset;  ///< root attribute; "" where absent
  Index dim = 0;           ///< D, from the head or the first features found; 0 if neither exists
  Index classes = 0;       ///< C, from the head or the first logits found; 0 if neither exists
  /// train, id_val, id_test, then ood_val/, ood/, csid/, each by name
  std::vector<SplitInfo> splits;
  /// every array of the layout, in the order of the splits, then /head
  std::vector<ArrayInfo> arrays;
};

/// A feature file opened for reading. Opening reads the structure and the head, no rows.
///
/// float16, float32 and float64 arrays are read as float32; labels may have any integer type.
/// errors std::runtime_error: a file that cannot be opened or read, or is not HDF5.
///        std::invalid_argument: a wrong rank or type, shapes that disagree with each other or with
///        the head, an empty split, a split without any known array, an unknown `kind`, values that
///        were never written or lie in another file, a head that is not finite. The message names
///        file, path inside it, what was found and what was expected. Values (NaN, labels out of
///        range) are checked when rows are streamed, see ood/stream.h.
class Dataset {
 public:
  explicit Dataset(const std::filesystem::path& path);
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;
  ~Dataset();

  const DatasetInfo& info() const;
  /// fingerprint() of the file, see below; read at the first call and kept.
  std::string fingerprint() const;
  /// The last layer, or nullptr.
  const Head* head() const;
  /// The split of this name, or nullptr.
  const SplitInfo* find(std::string_view split) const;
  /// The split of this name. Throws std::invalid_argument if there is none, with the names of those
  /// that exist.
  const SplitInfo& at(std::string_view split) const;
  /// A source over one split. It reads row blocks aligned with the chunks, of at most 16,384 rows
  /// and 16 MiB (4 MiB without chunks), the next one in the background, by a thread of its own, while the current one is
  /// visited. That thread unpacks chunks of gzip and shuffle on as many threads as the pass is given (stream()'s Exec; read()
  /// alone: all, which OMP_NUM_THREADS bounds), beside those that visit uses. Memory, whatever n is: two blocks and, for each
  /// compressed array, four times 64 MiB or four times one larger chunk at most, and up to 256 MiB of chunks that reach from
  /// one block into the next. Valid on its own, also after the Dataset is gone. Throws as at() does.
  std::unique_ptr<BatchSource> source(std::string_view split) const;
  /// The same over rows [begin, end) alone, at least one; its row 0 is row `begin` of the split. classes: as many as there
  /// are in a split that has labels and neither logits nor a head. Without it they are counted, for which the labels of all
  /// its rows are read, once for each Dataset.
  std::unique_ptr<BatchSource> source(std::string_view split, Index begin, Index end,
                                      std::optional<Index> classes = {}) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

/// The splits of a file that detectors are fitted on: /train, /id_val, every set of /ood_val.
struct FitSources {
  explicit FitSources(const Dataset& dataset);
  /// Valid as long as this is.
  FitData data() const;

  std::unique_ptr<BatchSource> train, id_val;  ///< nullptr where the file has none
  std::vector<std::pair<std::string, std::unique_ptr<BatchSource>>> ood_val;
};

/// XXH3 of all bytes of a file, 128 bits as 32 hexadecimal digits: what `xxh128sum` prints. Tells
/// whether two results are of the same file; no protection against somebody who wants them to look
/// so. Reads the file once, 1 MiB at a time. Throws std::runtime_error for one that cannot be read.
std::string fingerprint(const std::filesystem::path& path);

/// How floating-point arrays are stored.
enum class FloatType { float16, float32, float64 };

/// Writes a feature file block by block. It is written under a temporary name beside `path` and
/// renamed by close(), so that `path` is a whole file or what it was before; without close()
/// nothing remains. The same content gives the same bytes, however it is cut into batches. Memory
/// is 1,024 rows of each split.
///
/// errors std::runtime_error: the file cannot be written; it is given up. std::invalid_argument: an
///        unknown split name or kind, a batch whose fields differ from those before it in the same
///        split, widths that differ from those elsewhere in the file, labels that are negative, a
///        head that is not finite: nothing was written, and another batch may follow. A value too
///        large for float16 and close() without any rows are std::invalid_argument too, and give
///        the file up.
class DatasetWriter {
 public:
  struct Options {
    std::string model{};
    std::string id_dataset{};
    FloatType float_type = FloatType::float32;  ///< the head is float32 at least
    /// 0 = no compression, 1..9 with shuffled bytes; chunks are 1,024 rows, of at most 16 MiB
    int gzip_level = 4;
  };
  explicit DatasetWriter(const std::filesystem::path& path, Options options);
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;
  ~DatasetWriter();

  void write_head(const Head& head);
  /// Appends the rows of `batch` to a split; none if it has none. kind ("near" | "far" | "") is for
  /// ood/ and ood_val/, and need not be repeated.
  void append(std::string_view split, const Batch& batch, std::string_view kind = "");
  /// A further string attribute of the file, or a new value of one: source, note, ...
  void set_attribute(const std::string& name, const std::string& value);
  /// Makes `path` the whole file. Every later call is an error.
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The version of the HDF5 library in use.
std::string hdf5_version();

}  // namespace ood
