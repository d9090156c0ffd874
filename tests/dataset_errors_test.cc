#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <random>

#include "dataset_files.h"

using namespace ood;
using namespace ood::test;

namespace {

/// What opening the file "bad.h5" says when it is made by `make`.
std::string open_error(const std::function<void(RawFile&)>& make) {
  const TemporaryFolder folder;
  const auto path = folder / "bad.h5";
  {
    RawFile file(path);
    make(file);
  }
  return error_of(path, [&] { Dataset{path}; });
}

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

constexpr auto kOne = [](std::size_t) { return 1.0; };

}  // namespace

TEST_CASE("dataset errors: what is no HDF5 file") {
  const TemporaryFolder folder;
  const auto open = [&](const std::string& name) {
    return error_of(folder / name, [&] { Dataset{folder / name}; });
  };
  CHECK(open("absent.h5") == "runtime_error: absent.h5: no such file");
  std::filesystem::create_directory(folder / "folder.h5");
  CHECK(open("folder.h5") == "runtime_error: folder.h5: is a directory, expected an HDF5 file");
  write_bytes(folder / "empty.h5", "");
  CHECK(open("empty.h5") == "runtime_error: empty.h5: is not an HDF5 file");
  std::mt19937 random(0);
  std::string garbage(100000, '\0');
  for (char& byte : garbage) byte = static_cast<char>(random());
  write_bytes(folder / "garbage.h5", garbage);
  CHECK(open("garbage.h5") == "runtime_error: garbage.h5: is not an HDF5 file");
#ifdef __linux__
  CHECK(error_of("/dev/null", [] { Dataset{"/dev/null"}; }) ==
        "runtime_error: null: is not a regular file, expected an HDF5 file");
#endif
}

TEST_CASE("dataset errors: a truncated file") {
  const TemporaryFolder folder;
  const auto path = folder / "cut.h5";
  {
    RawFile file(path);
    file.floats("/train/features", {5000, 4}, kOne);
  }
  const auto size = std::filesystem::file_size(path);
  for (const auto part : {size - 1, size / 2, std::uintmax_t{600}, std::uintmax_t{100}}) {
    std::filesystem::resize_file(path, part);
    CHECK(error_of(path, [&] { Dataset{path}; }) ==
          "runtime_error: cut.h5: cannot be opened: truncated file: eof = " + std::to_string(part) +
              ", sblock->base_addr = 0, stored_eof = " + std::to_string(size));
  }
}

TEST_CASE("dataset errors: groups") {
  CHECK(
      open_error([](RawFile& f) {
        f.zeros("/features", {2, 2});
      }) ==
      "invalid_argument: bad.h5: / has no split, expected train, id_val, id_test, ood_val/<name>, "
      "ood/<name> or csid/<name>");
  CHECK(open_error([](RawFile& f) { f.group("/train"); }) ==
        "invalid_argument: bad.h5: /train has no known array, expected features, logits, labels, "
        "layers/<name>, copies/features or copies/logits");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/ood/svhn", {2, 2});
        }) == "invalid_argument: bad.h5: /ood/svhn has an array, expected a group");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/ood", {2, 2});
        }) == "invalid_argument: bad.h5: /ood has an array, expected a group");
  CHECK(open_error([](RawFile& f) { f.group("/train/features"); }) ==
        "invalid_argument: bad.h5: /train/features has a group, expected an array");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/features", {2, 2});
          f.group("/train/layers/deep/features");
        }) == "invalid_argument: bad.h5: /train/layers/deep has a group, expected an array");
  CHECK(open_error([](RawFile& f) {
          f.group("/train");
          const hid_t type = H5Tcopy(H5T_NATIVE_INT);
          H5Tcommit2(f.id(), "/train/labels", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
          H5Tclose(type);
        }) == "invalid_argument: bad.h5: /train/labels has a named type, expected an array");
}

TEST_CASE("dataset errors: links that lead nowhere or out of the file") {
  const TemporaryFolder folder;
  {
    RawFile other(folder / "other.h5");
    other.zeros("/train/features", {2, 2});
  }
  const std::string target = (folder / "other.h5").string();
  const auto expected = [](const std::string& path, const std::string& want) {
    return "invalid_argument: bad.h5: " + path +
           " has a link that leads nowhere in this file, expected " + want;
  };
  CHECK(open_error([](RawFile& f) {
          f.group("/train");
          H5Lcreate_soft("/nowhere", f.id(), "/train/features", H5P_DEFAULT, H5P_DEFAULT);
        }) == expected("/train/features", "an array"));
  CHECK(open_error([](RawFile& f) {
          H5Lcreate_soft("/train", f.id(), "/train", H5P_DEFAULT, H5P_DEFAULT);
        }) == expected("/train", "a group"));
  CHECK(open_error([&](RawFile& f) {
          H5Lcreate_external(target.c_str(), "/train", f.id(), "/train", H5P_DEFAULT, H5P_DEFAULT);
        }) == expected("/train", "a group"));
  CHECK(open_error([&](RawFile& f) {  // by a detour
          f.group("/ood");
          H5Lcreate_external(target.c_str(), "/train", f.id(), "/far", H5P_DEFAULT, H5P_DEFAULT);
          H5Lcreate_soft("/far", f.id(), "/ood/svhn", H5P_DEFAULT, H5P_DEFAULT);
        }) == expected("/ood/svhn", "a group"));
  CHECK(open_error([](RawFile& f) {  // a group inside itself
          f.zeros("/train/features", {2, 2});
          f.group("/ood");
          H5Lcreate_hard(f.id(), "/", f.id(), "/ood/loop", H5P_DEFAULT, H5P_DEFAULT);
        })
            .starts_with("invalid_argument: bad.h5: /ood/loop has no known array"));
}

TEST_CASE("dataset errors: rank and type") {
  CHECK(open_error([](RawFile& f) { f.zeros("/train/features", {9}); }) ==
        "invalid_argument: bad.h5: /train/features has shape [9], expected [n, D]");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/logits", {9, 3, 3});
        }) == "invalid_argument: bad.h5: /train/logits has shape [9, 3, 3], expected [n, C]");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/labels", {9, 1});
        }) == "invalid_argument: bad.h5: /train/labels has shape [9, 1], expected [n]");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/copies/features", {9, 3});
        }) ==
        "invalid_argument: bad.h5: /train/copies/features has shape [9, 3], expected [K, n, D]");
  CHECK(open_error([](RawFile& f) {
          const hid_t space = H5Screate(H5S_NULL);
          f.group("/train");
          H5Dclose(H5Dcreate2(f.id(), "/train/features", H5T_IEEE_F32LE, space, H5P_DEFAULT,
                              H5P_DEFAULT, H5P_DEFAULT));
          H5Sclose(space);
        }) == "invalid_argument: bad.h5: /train/features has shape [], expected [n, D]");

  const auto features_of = [](hid_t type) {
    return open_error([&](RawFile& f) { f.array("/train/features", {2, 2}, type, type, nullptr); });
  };
  const auto expected = [](const std::string& got) {
    return "invalid_argument: bad.h5: /train/features has " + got +
           " values, expected float16, float32 or float64";
  };
  CHECK(features_of(H5T_STD_I32LE) == expected("int32"));
  CHECK(features_of(H5T_C_S1) == expected("string"));
  CHECK(features_of(H5T_STD_B8LE) == expected("bitfield"));
  CHECK(features_of(H5T_NATIVE_LDOUBLE) == expected("non-standard 128-bit float"));
  const hid_t compound = H5Tcreate(H5T_COMPOUND, 8), bfloat = H5Tcopy(H5T_IEEE_F32LE);
  H5Tinsert(compound, "re", 0, H5T_IEEE_F32LE);
  CHECK(features_of(compound) == expected("compound"));
  H5Tset_fields(bfloat, 15, 7, 8, 0, 7);
  H5Tset_size(bfloat, 2);
  CHECK(features_of(bfloat) == expected("non-standard 16-bit float"));
  H5Tclose(compound);
  H5Tclose(bfloat);

  CHECK(open_error([](RawFile& f) { f.zeros("/train/labels", {9}); }) ==
        "invalid_argument: bad.h5: /train/labels has float32 values, expected integers of 8 to 64 "
        "bits");
  CHECK(open_error([](RawFile& f) {
          const hid_t type = H5Tcopy(H5T_STD_I32LE);
          H5Tset_precision(type, 24);
          f.array("/train/labels", {9}, type, type, nullptr);
          H5Tclose(type);
        }) ==
        "invalid_argument: bad.h5: /train/labels has non-standard 32-bit integer values, expected "
        "integers of 8 to 64 bits");
}

TEST_CASE("dataset errors: sizes that disagree") {
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/features", {0, 4});
        }) == "invalid_argument: bad.h5: /train/features has 0 rows, expected 1 or more");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/features", {4, 0});
        }) == "invalid_argument: bad.h5: /train/features has 0 columns, expected 1 or more");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/features", {100, 4});
          f.labels("/train/labels", std::vector<std::int64_t>(99));
        }) ==
        "invalid_argument: bad.h5: /train/labels has 99 rows, expected 100 as /train/features has");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/head/weight", {10, 342});
          f.zeros("/head/bias", {10});
          f.zeros("/ood/svhn/features", {3, 341});
        }) ==
        "invalid_argument: bad.h5: /ood/svhn/features has 341 columns, expected 342 as "
        "/head/weight has");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/head/weight", {10, 4});
          f.zeros("/head/bias", {10});
          f.zeros("/train/logits", {3, 9});
        }) ==
        "invalid_argument: bad.h5: /train/logits has 9 columns, expected 10 as /head/weight has "
        "rows");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/features", {3, 4});
          f.zeros("/id_test/features", {3, 5});
        }) ==
        "invalid_argument: bad.h5: /id_test/features has 5 columns, expected 4 as /train/features "
        "has");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/layers/conv1", {3, 24});
          f.zeros("/ood/a/layers/conv1", {3, 25});
        }) ==
        "invalid_argument: bad.h5: /ood/a/layers/conv1 has 25 columns, expected 24 as "
        "/train/layers/conv1 has");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/features", {3, 4});
          f.zeros("/train/copies/features", {2, 3, 5});
        }) ==
        "invalid_argument: bad.h5: /train/copies/features has 5 columns, expected 4 as "
        "/train/features has");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/train/copies/features", {8, 3, 4});
          f.zeros("/train/copies/logits", {7, 3, 2});
        }) ==
        "invalid_argument: bad.h5: /train/copies/logits has 7 copies, expected 8 as "
        "/train/copies/features has");
}

TEST_CASE("dataset errors: the head") {
  CHECK(open_error([](RawFile& f) {
          f.zeros("/head/weight", {10, 4});
        }) == "invalid_argument: bad.h5: /head has only weight, expected weight and bias");
  CHECK(open_error([](RawFile& f) { f.zeros("/head/bias", {10}); }) ==
        "invalid_argument: bad.h5: /head has only bias, expected weight and bias");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/head/weight", {10, 4});
          f.zeros("/head/bias", {9});
        }) ==
        "invalid_argument: bad.h5: /head/bias has 9 entries, expected 10 as /head/weight has rows");
  CHECK(open_error([](RawFile& f) { f.zeros("/head", {9}); }) ==
        "invalid_argument: bad.h5: /head has an array, expected a group");
  CHECK(open_error([](RawFile& f) {
          f.zeros("/head/weight", {10, 4});
          f.floats("/head/bias", {10}, [](std::size_t i) { return i == 3 ? NAN : 0.0; });
        }) == "invalid_argument: bad.h5: /head/bias has NaN or infinity, expected finite values");
}

TEST_CASE("dataset errors: kind and other attributes") {
  const auto with_kind = [](const std::function<void(RawFile&)>& set) {
    return open_error([&](RawFile& f) {
      f.zeros("/ood/a/features", {2, 2});
      set(f);
    });
  };
  CHECK(with_kind([](RawFile& f) { f.text("/ood/a", "kind", "medium"); }) ==
        "invalid_argument: bad.h5: /ood/a has kind medium, expected near or far");
  CHECK(with_kind([](RawFile& f) {
          const int one = 1;
          f.attribute("/ood/a", "kind", H5T_NATIVE_INT, &one);
        }) ==
        "invalid_argument: bad.h5: /ood/a: attribute kind has int32 values, expected a string");
  CHECK(with_kind([](RawFile& f) {
          f.text("/", "model", "x", false, H5T_CSET_ASCII, H5T_STR_NULLTERM, 60000);
        }) == "no error");
}

TEST_CASE("dataset errors: declared sizes without values allocate nothing") {
  const auto declared = [](const char* path, const Shape& shape, const Storage& storage) {
    return open_error([&](RawFile& f) {
      f.array(path, shape, H5T_IEEE_F32LE, H5T_IEEE_F32LE, nullptr, storage);
      f.array("/head/bias", {shape[0]}, H5T_IEEE_F32LE, H5T_IEEE_F32LE, nullptr, {{1}});
    });
  };
  const hsize_t huge = hsize_t{1} << 40;
  CHECK(declared("/head/weight", {huge, 4}, {{1024, 4}}) ==
        "invalid_argument: bad.h5: /head/weight has 1099511627776 rows, expected at most "
        "274877906944");
  CHECK(open_error([&](RawFile& f) {
          f.array("/train/features", {1 << 20, 4}, H5T_IEEE_F32LE, H5T_IEEE_F32LE, nullptr);
        }) == "invalid_argument: bad.h5: /train/features has no values, they were never written");
  CHECK(open_error([&](RawFile& f) {
          f.array("/train/features", {1 << 30, 4}, H5T_IEEE_F32LE, H5T_IEEE_F32LE, nullptr,
                  {{1024, 4}});
        }) == "invalid_argument: bad.h5: /train/features has 0 chunks written, expected 1048576");
  CHECK(
      open_error([&](RawFile& f) {
        f.array("/train/features", {4, huge}, H5T_IEEE_F32LE, H5T_IEEE_F32LE, nullptr, {{1, 1024}});
      }) ==
      "invalid_argument: bad.h5: /train/features has shape [4, 1099511627776], expected at most "
      "16777216 values in a row");
  CHECK(open_error([&](RawFile& f) {
          f.array("/train/features", {1 << 30, 4}, H5T_IEEE_F32LE, H5T_IEEE_F32LE, nullptr,
                  {{1 << 27, 4}});
        }) ==
        "invalid_argument: bad.h5: /train/features has chunks of 134217728 x 4 values of 4 bytes, "
        "expected at most 1073741824 bytes");
  CHECK(declared("/head/weight", {1 << 15, 1 << 15}, {{1 << 10, 1 << 10}}) ==
        "invalid_argument: bad.h5: /head/weight has 0 chunks written, expected 1024");
}

TEST_CASE("dataset errors: chunks whose bytes wrap around 2^64") {
  const TemporaryFolder folder;
  const auto path = folder / "bad.h5";
  // 2^64 bytes; one that wraps to less than HDF5's 4 GiB
  constexpr std::array<std::array<std::uint32_t, 2>, 2> kShapes{
      {{1u << 31, 1u << 31}, {(1u << 31) - 46340, (1u << 31) + 46341}}};
  for (const auto& shape : kShapes) {
    const std::uint32_t rows = shape[0], columns = shape[1];
    CAPTURE(rows);
    CAPTURE(columns);
    {
      RawFile file(path);
      file.floats("/train/features", {400, 6}, kOne, {{100, 6}, 4});
    }
    std::ifstream written(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(written), {}};
    // as the layout message has it: the chunk's shape and the bytes of a value
    const auto message = [](std::array<std::uint32_t, 3> numbers) {
      return std::string(reinterpret_cast<const char*>(numbers.data()), sizeof numbers);
    };
    const std::size_t at = bytes.find(message({100, 6, 4}));
    REQUIRE(at != std::string::npos);
    bytes.replace(at, 12, message({rows, columns, 4}));
    write_bytes(path, bytes);
    const std::string error = error_of(path, [&] { Dataset{path}; });
    CAPTURE(error);
    CHECK(error == "invalid_argument: bad.h5: /train/features has chunks of " +
                       std::to_string(rows) + " x " + std::to_string(columns) +
                       " values of 4 bytes, expected at most 1073741824 bytes");
  }
}

TEST_CASE("dataset errors: a chunk without filters that is shorter or longer than a chunk") {
  const TemporaryFolder folder;
  const auto path = folder / "bad.h5";
  for (const std::uint32_t size : {16u, 2399u, 2400u, 2401u, 5000u}) {
    CAPTURE(size);
    {
      RawFile file(path);
      file.floats("/train/features", {400, 6}, kOne, {{100, 6}});
    }
    std::ifstream written(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(written), {}};
    // as the key of the chunk in the index has it: its bytes, no filter skipped, where it is
    const std::array<std::uint32_t, 4> key{2400, 0, 200, 0};
    const std::size_t at =
        bytes.find(std::string(reinterpret_cast<const char*>(key.data()), sizeof key));
    REQUIRE(at != std::string::npos);
    bytes.replace(at, 4, reinterpret_cast<const char*>(&size), 4);
    write_bytes(path, bytes);
    CHECK(error_of(path, [&] { Dataset{path}; }) ==
          (size == 2400
               ? "no error"
               : "invalid_argument: bad.h5: /train/features has 4 chunks of 2400 bytes but " +
                     std::to_string(7200 + size) + " bytes in all, expected 9600"));
  }
}

TEST_CASE("dataset errors: a small file with a large head") {
  CHECK(open_error([](RawFile& f) {
          f.zeros("/head/bias", {1 << 15});
          f.array("/head/weight", {1 << 15, 1 << 15}, H5T_IEEE_F32LE, H5T_IEEE_F32LE, nullptr,
                  {{1 << 9, 1 << 15}, 9});
          const hid_t array = H5Dopen2(f.id(), "/head/weight", H5P_DEFAULT);
          for (hsize_t row = 0; row < 1 << 15; row += 1 << 9)
            H5Dwrite_chunk(array, H5P_DEFAULT, 0, std::vector<hsize_t>{row, 0}.data(), 1, "x");
          H5Dclose(array);
        }) ==
        "invalid_argument: bad.h5: /head/weight has 1073741824 values in 64 bytes, expected less "
        "compression");
}

TEST_CASE("dataset errors: values outside of the file, or behind an unknown filter") {
  CHECK(open_error([](RawFile& f) {
          const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
          H5Pset_external(creation, "/dev/zero", 0, H5F_UNLIMITED);
          const hsize_t shape[2] = {4, 4};
          const hid_t space = H5Screate_simple(2, shape, nullptr);
          H5Dclose(H5Dcreate2(f.id(), "/train/features", H5T_IEEE_F32LE, space, f.links(), creation,
                              H5P_DEFAULT));
          H5Sclose(space);
          H5Pclose(creation);
        }) ==
        "invalid_argument: bad.h5: /train/features has external storage, expected values in this "
        "file");
  CHECK(open_error([](RawFile& f) {
          const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
          const hsize_t shape[2] = {4, 4};
          H5Pset_chunk(creation, 2, shape);
          H5Pset_filter(creation, 511, H5Z_FLAG_OPTIONAL, 0, nullptr);
          const hid_t space = H5Screate_simple(2, shape, nullptr);
          const hid_t array = H5Dcreate2(f.id(), "/train/features", H5T_IEEE_F32LE, space,
                                         f.links(), creation, H5P_DEFAULT);
          H5Dclose(array);
          H5Sclose(space);
          H5Pclose(creation);
        }) ==
        "runtime_error: bad.h5: /train/features has filter number 511, expected one that this HDF5 "
        "library can undo, such as gzip");
}

TEST_CASE("dataset errors: what would unpack to far more than the file has") {
  // a gzip stream of 128 MiB, as its chunk says, would take 128 KiB
  const auto with_chunk = [](hsize_t rows, int times_gzip) {
    return open_error([&](RawFile& f) {
      const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
      const hsize_t shape[2] = {rows, 1024};
      H5Pset_chunk(creation, 2, shape);
      for (int i = 0; i < times_gzip; ++i) H5Pset_deflate(creation, 9);
      const hid_t space = H5Screate_simple(2, shape, nullptr);
      const hid_t array = H5Dcreate2(f.id(), "/train/features", H5T_IEEE_F32LE, space, f.links(),
                                     creation, H5P_DEFAULT);
      const hsize_t first[2] = {0, 0};
      const std::string bytes(100, 'x');
      H5Dwrite_chunk(array, H5P_DEFAULT, 0, first, bytes.size(), bytes.data());
      H5Dclose(array);
      H5Sclose(space);
      H5Pclose(creation);
    });
  };
  CHECK(with_chunk(32768, 1) ==
        "invalid_argument: bad.h5: /train/features has chunks of 134217728 bytes but 100 bytes in "
        "all, expected less compression");
  CHECK(with_chunk(4, 2) ==
        "invalid_argument: bad.h5: /train/features has filter gzip twice, expected it once");
  CHECK(with_chunk(4, 1) == "no error");  // until it is read
}

TEST_CASE("dataset errors: a split that does not exist") {
  const TemporaryFolder folder;
  const auto path = folder / "good.h5";
  {
    RawFile file(path);
    file.zeros("/train/features", {2, 2});
    file.zeros("/ood/svhn/features", {2, 2});
  }
  CHECK(error_of(path, [&] { Dataset(path).source("ood/mnist"); }) ==
        "invalid_argument: good.h5: has no split ood/mnist, expected one of train, ood/svhn");
}

TEST_CASE("dataset errors: labels that no class number can be") {
  const TemporaryFolder folder;
  const auto path = folder / "labels.h5";
  {
    RawFile file(path);
    const std::uint64_t values[3] = {1, 2, std::uint64_t{1} << 63};
    file.array("/train/labels", {3}, H5T_STD_U64LE, H5T_NATIVE_UINT64, values);
    file.labels("/id_test/labels", {1, std::int64_t{1} << 40});
    file.labels("/id_val/labels", {-1, -1});
  }
  const Dataset dataset(path);
  CHECK(error_of(path, [&] { dataset.source("train"); }) ==
        "invalid_argument: labels.h5: /train/labels has 9223372036854775808 at row 2, expected "
        "labels "
        "below 2^63");
  CHECK(
      error_of(path, [&] { dataset.source("id_test"); }) ==
      "invalid_argument: labels.h5: /id_test/labels has 1099511627776 at row 1, expected less than "
      "16777216");
  CHECK(dataset.source("id_val")->info().classes == 0);
}
