// The reader of feature files beside what it cannot avoid: HDF5's own H5Dread in a bare loop, and read() of the same
// bytes.
#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "interleaved.h"
#include "ood/dataset.h"
#include "ood/exec.h"
#include "ood/random.h"
#include "ood/synthetic.h"

namespace ood::bench {

namespace {

constexpr Index kBlock = 2048;

/// h5py's guess for [16384, 2048] of float32 with gzip: pieces of rows.
constexpr std::array<hsize_t, 2> kGuess{256, 64};

enum Storage { kContiguous, kWriterChunks, kGuessedChunks, kPlainChunks };
constexpr std::array kStorage{"contiguous", "gzip, whole rows", "gzip, pieces of rows",
                              "chunks of whole rows, no filter"};

/// Enough for the memory that a pass sets up not to count.
constexpr Index rows_of(Storage storage) {
  return storage == kContiguous || storage == kPlainChunks ? 65536 : 16384;
}

/// A file of made-up ResNet-50 features, removed at the end.
class ReaderFile {
 public:
  explicit ReaderFile(Storage storage)
      : path_(std::filesystem::temp_directory_path() /
              ("ood-reader-bench-" + std::to_string(getpid()) + "-" + std::to_string(storage))) {
    static const SyntheticData data("imagenet-resnet50");
    Matrix rows(rows_of(storage), data.model().dim);
    data.source("train", rows.rows())->read({.features = true}, [&](const Batch& batch) {
      rows.middleRows(batch.first_row, batch.rows()) = *batch.features;
    });
    const std::array<hsize_t, 2> shape{static_cast<hsize_t>(rows.rows()),
                                       static_cast<hsize_t>(rows.cols())};
    const std::array<hsize_t, 2> whole{1024, shape[1]};
    const hid_t file = H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    if (storage != kContiguous) {
      H5Pset_chunk(creation, 2, storage == kGuessedChunks ? kGuess.data() : whole.data());
      if (storage != kPlainChunks) {
        H5Pset_shuffle(creation);
        H5Pset_deflate(creation, 4);
      }
    }
    const hid_t space = H5Screate_simple(2, shape.data(), nullptr);
    const hid_t array =
        H5Dcreate2(file, "/train/features", H5T_IEEE_F32LE, space, links, creation, H5P_DEFAULT);
    if (H5Dwrite(array, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows.data()) < 0)
      throw std::runtime_error("the benchmark cannot write " + path_.string());
    H5Dclose(array);
    H5Sclose(space);
    H5Pclose(links);
    H5Pclose(creation);
    H5Fclose(file);
  }
  ReaderFile(const ReaderFile&) = delete;
  ReaderFile& operator=(const ReaderFile&) = delete;
  ~ReaderFile() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

float read_by_source(const std::filesystem::path& path) {
  const Dataset dataset(path);
  float sum = 0;
  dataset.source("train")->read({.features = true},
                                [&](const Batch& batch) { sum += batch.features->col(0).sum(); });
  return sum;
}

/// What a user would write: blocks of rows one after the other, a cache for the chunks that a row runs through.
float read_by_hdf5(const std::filesystem::path& path, Index rows, Matrix& block) {
  const hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
  H5Pset_chunk_cache(access, 10007, 64 << 20, 1.0);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t array = H5Dopen2(file, "/train/features", access);
  const hid_t space = H5Dget_space(array);
  const std::array<hsize_t, 2> size{static_cast<hsize_t>(block.rows()),
                                    static_cast<hsize_t>(block.cols())};
  const hid_t memory = H5Screate_simple(2, size.data(), nullptr);
  float sum = 0;
  for (Index begin = 0; begin < rows; begin += block.rows()) {
    const std::array<hsize_t, 2> start{static_cast<hsize_t>(begin), 0};
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, size.data(), nullptr);
    if (H5Dread(array, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, block.data()) < 0)
      throw std::runtime_error("the benchmark cannot read " + path.string());
    sum += block.col(0).sum();
  }
  H5Sclose(memory);
  H5Sclose(space);
  H5Dclose(array);
  H5Fclose(file);
  H5Pclose(access);
  return sum;
}

float read_bytes(const std::filesystem::path& path, Matrix& block) {
  const int file = open(path.c_str(), O_RDONLY);
  const auto size = static_cast<std::size_t>(block.size()) * sizeof(float);
  float sum = 0;
  while (read(file, block.data(), size) > 0) sum += block(0, 0);
  close(file);
  return sum;
}

/// Both in turns: of wall time, because that is what threads save, and of processor time.
void BM_read_feature_file(benchmark::State& state) {
  const auto storage = static_cast<Storage>(state.range(0));
  const ReaderFile file(storage);
  const Index rows = rows_of(storage);
  Matrix block(kBlock, 2048);
  // the first number of each row, summed in blocks of other sizes
  if (std::abs(read_by_source(file.path()) / read_by_hdf5(file.path(), rows, block) - 1) > 1e-4f)
    state.SkipWithError("the two do not read the same");
  std::vector<double> wall_ratios, work_ratios, ours, bare, bytes;
  for (auto _ : state) {
    const double processor = seconds([&] {
      ours.push_back(wall_seconds([&] { benchmark::DoNotOptimize(read_by_source(file.path())); }));
    });
    const double bare_processor = seconds([&] {
      bare.push_back(
          wall_seconds([&] { benchmark::DoNotOptimize(read_by_hdf5(file.path(), rows, block)); }));
    });
    bytes.push_back(
        wall_seconds([&] { benchmark::DoNotOptimize(read_bytes(file.path(), block)); }));
    wall_ratios.push_back(bare.back() / ours.back());
    work_ratios.push_back(bare_processor / processor);
    state.SetIterationTime(ours.back());
  }
  const double gigabytes = static_cast<double>(rows) * 2048 * sizeof(float) * 1e-9;
  state.SetLabel(kStorage[static_cast<std::size_t>(storage)]);
  state.counters["GB/s"] = gigabytes / median(ours);
  state.counters["H5Dread_GB/s"] = gigabytes / median(bare);
  state.counters["file_GB/s"] =  // of what lies on disk, from the page cache
      static_cast<double>(std::filesystem::file_size(file.path())) * 1e-9 / median(bytes);
  state.counters["work_ms"] = 1e3 * median(ours);
  state.counters["other_ms"] = 1e3 * median(bare);
  state.counters["times_H5Dread"] = median(wall_ratios);
  state.counters["goal"] = 0.9;
  state.counters["times_H5Dread_work"] = median(work_ratios);
}
BENCHMARK(BM_read_feature_file)
    ->DenseRange(kContiguous, kPlainChunks)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(9);

}  // namespace

}  // namespace ood::bench
