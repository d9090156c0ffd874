/// Feature files made by hand, for the tests of the dataset.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "ood/batch.h"
#include "ood/dataset.h"

namespace ood::test {

/// A folder that is removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("ood-dataset-test-" + std::to_string(std::random_device{}()))) {
    std::filesystem::create_directories(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

using Shape = std::vector<hsize_t>;

struct Storage {
  Shape chunk;        // contiguous if empty
  unsigned gzip = 0;  // with shuffle
  bool compact = false;
};

/// An HDF5 file under construction, by the C API alone: what the library reads is not made by it.
class RawFile {
 public:
  explicit RawFile(const std::filesystem::path& path)
      : id_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)),
        links_(H5Pcreate(H5P_LINK_CREATE)) {
    H5Pset_create_intermediate_group(links_, 1);
  }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;
  ~RawFile() {
    H5Pclose(links_);
    H5Fclose(id_);
  }
  hid_t id() const { return id_; }
  hid_t links() const { return links_; }

  void group(const std::string& path) {
    H5Gclose(H5Gcreate2(id_, path.c_str(), links_, H5P_DEFAULT, H5P_DEFAULT));
  }

  /// An array with values; nothing is written if `values` is nullptr.
  void array(const std::string& path, const Shape& shape, hid_t type, hid_t memory_type,
             const void* values, const Storage& storage = {}) {
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    if (storage.compact) H5Pset_layout(creation, H5D_COMPACT);
    if (!storage.chunk.empty())
      H5Pset_chunk(creation, static_cast<int>(storage.chunk.size()), storage.chunk.data());
    if (storage.gzip > 0) {
      H5Pset_shuffle(creation);
      H5Pset_deflate(creation, storage.gzip);
    }
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t array = H5Dcreate2(id_, path.c_str(), type, space, links_, creation, H5P_DEFAULT);
    if (array < 0) throw std::logic_error("the test cannot make " + path);
    if (values != nullptr) H5Dwrite(array, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(array);
    H5Sclose(space);
    H5Pclose(creation);
  }
  /// An array of floats with value(i) as its i-th number, in row-major order.
  void floats(const std::string& path, const Shape& shape,
              const std::function<double(std::size_t)>& value, const Storage& storage = {},
              hid_t type = H5T_IEEE_F32LE) {
    std::vector<double> values(size_of(shape));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(i);
    array(path, shape, type, H5T_NATIVE_DOUBLE, values.data(), storage);
  }
  void zeros(const std::string& path, const Shape& shape) {
    floats(path, shape, [](std::size_t) { return 0.0; });
  }
  void labels(const std::string& path, const std::vector<std::int64_t>& values,
              const Storage& storage = {}, hid_t type = H5T_STD_I64LE) {
    array(path, {values.size()}, type, H5T_NATIVE_INT64, values.data(), storage);
  }

  /// A string attribute: variable length, or fixed with the given padding.
  void text(const std::string& object, const std::string& name, const std::string& value,
            bool variable = true, H5T_cset_t characters = H5T_CSET_UTF8,
            H5T_str_t padding = H5T_STR_NULLTERM, std::size_t size = 32) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, variable ? H5T_VARIABLE : size);
    H5Tset_cset(type, characters);
    H5Tset_strpad(type, padding);
    std::string fixed = value;
    fixed.resize(size, padding == H5T_STR_SPACEPAD ? ' ' : '\0');
    const char* pointer = value.c_str();
    attribute(object, name, type, variable ? static_cast<const void*>(&pointer) : fixed.data());
    H5Tclose(type);
  }
  void attribute(const std::string& object, const std::string& name, hid_t type,
                 const void* value) {
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate_by_name(id_, object.c_str(), name.c_str(), type, space,
                                              H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, value);
    H5Aclose(attribute);
    H5Sclose(space);
  }

  static std::size_t size_of(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>{});
  }

 private:
  hid_t id_, links_;
};

/// IEEE half precision as h5py writes it; the caller closes it.
inline hid_t half_type() {
  const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(type, 15, 10, 5, 0, 10);
  H5Tset_size(type, 2);
  H5Tset_ebias(type, 15);
  return type;
}

/// Numbers that float16 holds exactly, different from one row to the next.
inline double number(std::size_t i) { return static_cast<double>(i % 2039) / 4.0 - 100.0; }

inline Matrix numbers(Index rows, Index columns) {
  Matrix matrix(rows, columns);
  for (Index i = 0; i < matrix.size(); ++i)
    matrix.data()[i] = static_cast<float>(number(static_cast<std::size_t>(i)));
  return matrix;
}

inline std::vector<std::int64_t> some_labels(std::size_t rows) {
  std::vector<std::int64_t> labels(rows);
  for (std::size_t i = 0; i < rows; ++i) labels[i] = static_cast<std::int64_t>(i * 7 % 11);
  return labels;
}

inline constexpr Inputs kEverything{.features = true,
                                    .logits = true,
                                    .labels = true,
                                    .layers = true,
                                    .copy_features = true,
                                    .copy_logits = true,
                                    .head = true};

/// All rows of a source.
inline BatchBuffer gather(BatchSource& source, const Inputs& wanted = kEverything) {
  BatchBuffer rows(source.info(), wanted, source.info().rows);
  source.read(wanted, [&](const Batch& batch) { rows.append(batch); });
  return rows;
}

/// Type and message of what a call throws, with the name of the file instead of its whole path.
inline std::string error_of(const std::filesystem::path& path, const std::function<void()>& call) {
  const auto shorten = [&](std::string message) {
    if (const auto at = message.find(path.string()); at != message.npos)
      message.replace(at, path.string().size(), path.filename().string());
    return message;
  };
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return "invalid_argument: " + shorten(error.what());
  } catch (const std::runtime_error& error) {
    return "runtime_error: " + shorten(error.what());
  }
  return "no error";
}

}  // namespace ood::test
