/// Compressed arrays of a feature file, unpacked on several threads.
///
/// HDF5 unpacks chunks in the thread that reads, one at a time and under its lock, and trusts that they unpack to
/// what they should (1.10.8 reads behind the end of one that does not). Here HDF5 gives chunks as they lie in the
/// file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hdf5_object.h"
#include "ood/exec.h"
#include "ood/matrix.h"

namespace ood {

/// What rows of an array are read into: float32, or int64 for labels, row-major in [K, capacity, width].
struct RowTarget {
  float* floats = nullptr;
  std::int64_t* labels = nullptr;  ///< bits of uint64 where the array has them
  Index capacity = 0;
};

/// The chunks of one array, for reading its rows from front to back. Memory: 64 MiB of chunks, or one larger
/// chunk, packed and unpacked; as much to be used again; and chunks that reach beyond the rows that were read last, up
/// to 256 MiB, but always one (what is more is unpacked again).
class PackedChunks {
 public:
  static constexpr std::size_t kMaxKeptBytes = 256 << 20;
  /// nullptr for an array that is not gzip's or shuffle's work alone, or whose values HDF5 has to convert: HDF5 reads
  /// it. Chunks are unpacked on as many threads as the caller of this may use (thread_count({})). Call it inside a
  /// Section.
  static std::unique_ptr<PackedChunks> of(const hdf5::Object& array, const ArrayInfo& info,
                                          std::size_t max_kept_bytes = kMaxKeptBytes);

  /// Reads rows [begin, begin + count). errors std::runtime_error "<what>: <reason>": a chunk that HDF5 cannot give,
  /// or that does not unpack to a chunk.
  void read(const hdf5::Object& array, Index begin, Index count, const RowTarget& to,
            const std::string& what);

  /// Chunks that were fetched from the file and unpacked, a chunk twice if it was not kept.
  Index fetched() const { return fetched_; }

 private:
  using Bytes = std::vector<unsigned char>;
  struct Chunk {
    std::vector<hsize_t> start;  // in the array
    Bytes packed;                // as it lies in the file
    std::uint32_t skipped = 0;   // filters that it was written without, by their bits
    bool is_packed = true;
    Bytes values;  // unpacked, but shuffled if shuffle was applied
    std::string failure;
  };

  PackedChunks() = default;
  static bool is_applied(int filter, const Chunk& chunk);
  std::vector<std::vector<hsize_t>> starts_of(Index begin, Index count) const;
  void fetch(const hdf5::Object& array, Chunk& chunk, const std::string& what) const;
  void unpack(Chunk& chunk) const;
  void copy_rows(const Chunk& chunk, Index begin, Index count, const RowTarget& to) const;

  std::string dtype_;
  std::vector<hsize_t> shape_, chunk_;  // of the array, of a chunk
  std::size_t row_axis_ = 0;
  std::size_t item_ = 0;          // bytes of a value
  std::size_t bytes_ = 0;         // of a chunk
  int shuffle_ = -1, gzip_ = -1;  // the place of each filter in the pipeline; -1: there is none
  std::size_t max_kept_bytes_ = 0;
  Exec exec_;
  Index fetched_ = 0;
  std::vector<Chunk> kept_;   // reach beyond the rows that were read last
  std::vector<Chunk> spare_;  // their memory is used again
};

}  // namespace ood
