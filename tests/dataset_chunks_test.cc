#include <doctest/doctest.h>
#include <zlib.h>

#include <cstring>

#include "dataset_files.h"
#include "dataset_rows.h"

using namespace ood;
using namespace ood::test;

namespace {

/// Values with all bytes in use, as float64 has them.
double value(std::size_t i) { return static_cast<double>(i * 2654435761u % 1000003) / 997.0 - 300; }

struct Filters {
  const char* name;
  bool shuffle, gzip;
  bool whole_edges = true;  // false: chunks at the edge are stored as they are
};

void make_array(RawFile& file, const char* path, const Shape& shape, const Shape& chunk, hid_t type,
                const Filters& filters) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
  if (filters.shuffle) H5Pset_shuffle(creation);
  if (filters.gzip) H5Pset_deflate(creation, 4);
  if (!filters.whole_edges) H5Pset_chunk_opts(creation, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS);
  const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
  const hid_t array = H5Dcreate2(file.id(), path, type, space, file.links(), creation, H5P_DEFAULT);
  std::vector<double> values(RawFile::size_of(shape));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(i);
  const bool integers = H5Tget_class(type) == H5T_INTEGER;
  if (integers)
    for (double& each : values) each = std::abs(std::floor(each));
  REQUIRE(H5Dwrite(array, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  H5Dclose(array);
  H5Sclose(space);
  H5Pclose(creation);
}

/// What HDF5 itself reads, unpacked and converted by it.
template <class T>
std::vector<T> read_by_hdf5(const std::filesystem::path& path, const char* array, hid_t type,
                            std::size_t size) {
  std::vector<T> values(size);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t id = H5Dopen2(file, array, H5P_DEFAULT);
  REQUIRE(H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0);
  H5Dclose(id);
  H5Fclose(file);
  return values;
}

constexpr Filters kFilters[] = {{"gzip", false, true},
                                {"shuffle", true, false},
                                {"shuffle, gzip", true, true},
                                {"shuffle, gzip, plain edges", true, true, false}};

}  // namespace

TEST_CASE("dataset chunks: the same bits as HDF5 reads") {
  const TemporaryFolder folder;
  const auto path = folder / "chunks.h5";
  const hid_t half = half_type();
  struct Type {
    const char* name;
    hid_t type;
  };
  for (const Filters& filters : kFilters)
    for (const Type& type : {Type{"float16", half}, Type{"float32", H5T_IEEE_F32LE},
                             Type{"float64", H5T_IEEE_F64LE}, Type{"float32 BE", H5T_IEEE_F32BE}})
      for (const Shape& chunk : {Shape{64, 7}, Shape{1000, 7}, Shape{100, 3}, Shape{4000, 7},
                                 Shape{300, 10}, Shape{1, 1}}) {
        if (chunk[0] == 1 && !filters.gzip) continue;  // 21,000 chunks: once is enough
        CAPTURE(std::string(filters.name));
        CAPTURE(std::string(type.name));
        CAPTURE(chunk[0]);
        CAPTURE(chunk[1]);
        const Shape shape{chunk[0] == 1 ? 100u : 3000u, 7};
        const Shape fits{std::min(chunk[0], shape[0]), std::min(chunk[1], shape[1])};
        {
          RawFile file(path);
          make_array(file, "/train/features", shape, fits, type.type, filters);
        }
        const auto expected =
            read_by_hdf5<double>(path, "/train/features", H5T_NATIVE_DOUBLE, 7 * shape[0]);
        const BatchBuffer rows = gather(*Dataset(path).source("train"));
        Index different = 0;
        for (Index i = 0; i < rows.features.size(); ++i)
          different +=
              rows.features.data()[i] != static_cast<float>(expected[static_cast<std::size_t>(i)]);
        CHECK(different == 0);
        // from the middle of a chunk on
        const BatchBuffer some = gather(*Dataset(path).source("train", 31, 83));
        CHECK(some.features == rows.features.middleRows(31, 52));
      }
  H5Tclose(half);
}

TEST_CASE("dataset chunks: labels of every type, copies") {
  const TemporaryFolder folder;
  const auto path = folder / "chunks.h5";
  for (const Filters& filters : kFilters)
    for (const hid_t type :
         {H5T_STD_I8LE, H5T_STD_U8LE, H5T_STD_I16LE, H5T_STD_U16LE, H5T_STD_I32LE, H5T_STD_U32LE,
          H5T_STD_I64LE, H5T_STD_U64LE, H5T_STD_I32BE})
      for (const hsize_t chunk : {33u, 1000u, 1024u}) {
        CAPTURE(std::string(filters.name));
        CAPTURE(chunk);
        {
          RawFile file(path);
          make_array(file, "/train/labels", {1024}, {chunk}, type, filters);
          make_array(file, "/train/copies/features", {5, 1024, 6}, {2, chunk, 4}, H5T_IEEE_F32LE,
                     filters);
        }
        const auto labels =
            read_by_hdf5<std::int64_t>(path, "/train/labels", H5T_NATIVE_INT64, 1024);
        const auto copies =
            read_by_hdf5<float>(path, "/train/copies/features", H5T_NATIVE_FLOAT, 5 * 1024 * 6);
        const BatchBuffer rows = gather(*Dataset(path).source("train"));
        CHECK(rows.labels == labels);
        REQUIRE(rows.copy_features.size() == copies.size());
        CHECK(std::memcmp(rows.copy_features.data(), copies.data(),
                          copies.size() * sizeof(float)) == 0);
      }
}

TEST_CASE("dataset chunks: tall and narrow ones are kept from block to block") {
  const TemporaryFolder folder;
  const auto path = folder / "tall.h5";
  const hsize_t n = 40000, d = 300;  // blocks of some 13,981 rows
  {
    RawFile file(path);
    make_array(file, "/train/features", {n, d}, {30000, 64}, H5T_IEEE_F32LE, kFilters[2]);
  }
  const auto expected = read_by_hdf5<float>(path, "/train/features", H5T_NATIVE_FLOAT, n * d);
  const auto source = Dataset(path).source("train");
  for (int pass = 0; pass < 2; ++pass) {
    const BatchBuffer rows = gather(*source);
    CHECK(std::memcmp(rows.features.data(), expected.data(), expected.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("dataset chunks: one is kept however large, so that it is unpacked once") {
  const TemporaryFolder folder;
  const auto path = folder / "large.h5";
  const Index n = 3000, block = 100;
  for (const hsize_t columns :
       {7u, 3u}) {  // of a chunk; an array of one chunk, of three side by side
    CAPTURE(columns);
    {
      RawFile file(path);
      make_array(file, "/train/features", {3000, 7}, {3000, columns}, H5T_IEEE_F32LE, kFilters[2]);
    }
    const auto expected = read_by_hdf5<float>(path, "/train/features", H5T_NATIVE_FLOAT, 3000 * 7);
    const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    {
      const hdf5::Object root = hdf5::open_root(id, path.string());
      const hdf5::Object array = *hdf5::find_array(*hdf5::find_group(root, "train"), "features");
      for (const std::size_t max_kept_bytes : {std::size_t{1}, PackedChunks::kMaxKeptBytes}) {
        CAPTURE(max_kept_bytes);
        const auto chunks = PackedChunks::of(array, hdf5::describe(array), max_kept_bytes);
        Matrix rows(n, 7);
        for (Index begin = 0; begin < n; begin += block)
          chunks->read(array, begin, block, {.floats = rows.row(begin).data(), .capacity = block},
                       "the test");
        CHECK(std::memcmp(rows.data(), expected.data(), expected.size() * sizeof(float)) == 0);
        const Index others = columns == 7 ? 0 : 2;  // for every block where they are not kept
        CHECK(chunks->fetched() == (max_kept_bytes == 1 ? 1 + others * (n / block) : 1 + others));
      }
    }
    H5Fclose(id);
  }
}

TEST_CASE("dataset chunks: an array that has another shape than its split is not read") {
  const TemporaryFolder folder;
  const auto path = folder / "changed.h5";
  {
    RawFile file(path);
    make_array(file, "/train/features", {300, 7}, {100, 7}, H5T_IEEE_F32LE, kFilters[2]);
  }
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  for (const Shape& shape : {Shape{300, 7}, Shape{300, 6}, Shape{299, 7}, Shape{300}}) {
    const hdf5::Object root = hdf5::open_root(id, path.string());
    const std::string error = error_of(path, [&] {
      open_for_reading({"features", shape},
                       *hdf5::find_array(*hdf5::find_group(root, "train"), "features"));
    });
    if (shape == Shape{300, 7})
      CHECK(error == "no error");
    else
      CHECK(error.starts_with(
          "invalid_argument: changed.h5: /train/features has shape [300, 7], expected ["));
  }
  H5Fclose(id);
}

namespace {

std::vector<unsigned char> packed(std::size_t bytes) {
  const std::vector<unsigned char> plain(bytes, 1);
  uLongf size = compressBound(static_cast<uLong>(bytes));
  std::vector<unsigned char> result(size);
  REQUIRE(compress(result.data(), &size, plain.data(), static_cast<uLong>(bytes)) == Z_OK);
  result.resize(size);
  return result;
}

/// Puts bytes in place of the second of four chunks of 100 x 6, which says what filters it was written without.
void replace_chunk(const std::filesystem::path& path, const std::vector<unsigned char>& bytes,
                   std::uint32_t skipped = 0) {
  {
    RawFile file(path);
    make_array(file, "/train/features", {400, 6}, {100, 6}, H5T_IEEE_F32LE, kFilters[2]);
  }
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t array = H5Dopen2(file, "/train/features", H5P_DEFAULT);
  const hsize_t start[] = {100, 0};
  REQUIRE(H5Dwrite_chunk(array, H5P_DEFAULT, skipped, start, bytes.size(), bytes.data()) >= 0);
  H5Dclose(array);
  H5Fclose(file);
}

}  // namespace

TEST_CASE("dataset chunks: one that does not unpack to a chunk is an error") {
  const TemporaryFolder folder;
  const auto path = folder / "damaged.h5";
  auto cut = packed(2400), spoilt = packed(2400);
  cut.resize(cut.size() - 3);
  spoilt[spoilt.size() - 1] ^= 1;  // the checksum
  const std::vector<unsigned char> garbage(50, 7), plain(2400, 0), short_plain(2399, 0);
  struct Case {
    const char* name;
    std::vector<unsigned char> bytes;
    std::uint32_t skipped;
    const char* reason;
  };
  for (const Case& test :
       {Case{"short", packed(2399), 0, "a chunk unpacks to 2399 bytes, expected 2400"},
        Case{"long", packed(2401), 0, "a chunk is cut off or unpacks to more than 2400 bytes"},
        Case{"very long", packed(1 << 20), 0,
             "a chunk is cut off or unpacks to more than 2400 bytes"},
        Case{"cut", cut, 0, "a chunk is cut off or unpacks to more than 2400 bytes"},
        Case{"checksum", spoilt, 0, "inflate() failed"},
        Case{"garbage", garbage, 0, "inflate() failed"},
        Case{"not gzip's, and short", short_plain, 2, "a chunk has 2399 bytes, expected 2400"},
        Case{"said not to be gzip's", packed(2400), 2, "a chunk has"},
        Case{"far too large", std::vector<unsigned char>(5000, 0), 0,
             "a chunk of 2400 bytes has 5000 in the file"}}) {
    CAPTURE(std::string(test.name));
    replace_chunk(path, test.bytes, test.skipped);
    const Dataset dataset(path);
    const std::string error = error_of(path, [&] { gather(*dataset.source("train")); });
    CAPTURE(error);
    CHECK(error.starts_with(std::string("runtime_error: damaged.h5: /train/features cannot be read "
                                        "at rows 0 to 399: ") +
                            test.reason));
    // the rows before it are fine
    CHECK(gather(*dataset.source("train", 0, 100)).rows() == 100);
  }
}

TEST_CASE("dataset chunks: filters that a chunk was written without") {
  const TemporaryFolder folder;
  const auto path = folder / "skipped.h5";
  std::vector<float> values(600);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(value(i));
  std::vector<unsigned char> plain(2400), planes(2400);
  std::memcpy(plain.data(), values.data(), plain.size());
  for (std::size_t i = 0; i < 600; ++i)
    for (std::size_t byte = 0; byte < 4; ++byte) planes[600 * byte + i] = plain[4 * i + byte];
  for (const bool shuffled : {false, true}) {
    CAPTURE(shuffled);
    replace_chunk(path, shuffled ? planes : plain, shuffled ? 2 : 3);
    const BatchBuffer rows = gather(*Dataset(path).source("train"));
    CHECK(std::memcmp(rows.features.row(100).data(), values.data(), 2400) == 0);
  }
}
