#include "file_script.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <hdf5.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <new>
#include <numeric>
#include <stdexcept>
#include <system_error>

namespace ood::fuzz {

namespace {

/// As the library does in its sections: nothing is printed.
void keep_hdf5_quiet() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

constexpr std::array kTypes = {"f4",    "f8",        "f2",       "F4",        "i1",
                               "i8",    "u8",        "I4",       "odd float", "odd integer",
                               "text",  "vlen text", "compound", "enum",      "bitfield",
                               "array", "vlen",      "opaque",   "reference"};

hid_t make_type(std::size_t kind, Script& script) {
  const auto half = [] {
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
  };
  const auto text = [](std::size_t size) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size);
    return type;
  };
  switch (kind) {
    case 0:
      return H5Tcopy(H5T_IEEE_F32LE);
    case 1:
      return H5Tcopy(H5T_IEEE_F64LE);
    case 2:
      return half();
    case 3:
      return H5Tcopy(H5T_IEEE_F32BE);
    case 4:
      return H5Tcopy(H5T_STD_I8LE);
    case 5:
      return H5Tcopy(H5T_STD_I64LE);
    case 6:
      return H5Tcopy(H5T_STD_U64LE);
    case 7:
      return H5Tcopy(H5T_STD_I32BE);
    case 8: {
      const hid_t type = H5Tcopy(H5T_IEEE_F64LE);
      H5Tset_fields(type, 30, 20, 10, 0, 20);
      return type;
    }
    case 9: {
      const hid_t type = H5Tcopy(H5T_STD_I64LE);
      H5Tset_precision(type, 1 + script.below(63));
      H5Tset_offset(type, 1);
      return type;
    }
    case 10: {
      const hid_t type = text(1 + script.size() % (1 << 16));
      H5Tset_strpad(type, static_cast<H5T_str_t>(script.below(3)));
      return type;
    }
    case 11:
      return text(H5T_VARIABLE);
    case 12: {
      const hid_t type = H5Tcreate(H5T_COMPOUND, 8);
      H5Tinsert(type, "r", 0, H5T_IEEE_F32LE);
      H5Tinsert(type, "i", 4, H5T_IEEE_F32LE);
      return type;
    }
    case 13: {
      const hid_t type = H5Tenum_create(H5T_STD_I8LE);
      const std::int8_t zero = 0;
      H5Tenum_insert(type, "no", &zero);
      return type;
    }
    case 14:
      return H5Tcopy(H5T_STD_B64LE);
    case 15: {
      const hsize_t size = 1 + script.below(8);
      return H5Tarray_create2(H5T_IEEE_F32LE, 1, &size);
    }
    case 16:
      return H5Tvlen_create(H5T_IEEE_F32LE);
    case 17:
      return H5Tcreate(H5T_OPAQUE, 1 + script.size() % 64);
    default:
      return H5Tcopy(H5T_STD_REF_OBJ);
  }
}

struct Edit {
  hid_t file;
  Script& script;
  std::vector<std::string> paths;  // of the valid file, "/" first

  const std::string& path() { return paths[script.below(paths.size())]; }

  /// A path of the file, or a new name below one.
  std::string place() {
    static constexpr std::array kNew = {"new",    "a",    "features", "logits", "labels", "layers",
                                        "copies", "head", "ood",      "x",      "kind",   "0."};
    const std::string& at = path();
    if (at != "/" && script.below(2) == 0) return at;
    return (at == "/" ? "" : at) + "/" + kNew[script.below(kNew.size())];
  }
  void clear(const std::string& at) const {
    if (at != "/") H5Ldelete(file, at.c_str(), H5P_DEFAULT);
  }

  void run() {
    switch (script.below(13)) {
      case 0:
        return clear(path());
      case 1: {
        const std::string from = path(), to = place();
        if (from == to) return;
        clear(to);
        H5Lmove(file, from.c_str(), H5L_SAME_LOC, to.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return;
      }
      case 2: {  // cycles too
        const std::string from = path(), to = place();
        if (from == to) return;
        clear(to);
        H5Lcreate_hard(file, from.c_str(), H5L_SAME_LOC, to.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return;
      }
      case 3: {
        const std::string to = place(), target = script.below(2) == 0 ? path() : to;
        clear(to);
        H5Lcreate_soft(target.c_str(), file, to.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        return;
      }
      case 4: {
        const std::string to = place(), target = path();
        clear(to);
        H5Lcreate_external("/dev/shm/elsewhere.h5", target.c_str(), file, to.c_str(), H5P_DEFAULT,
                           H5P_DEFAULT);
        return;
      }
      case 5: {
        const std::string at = place();
        clear(at);
        H5Gclose(H5Gcreate2(file, at.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        return;
      }
      case 6:
      case 7:
        return array(place());
      case 8:
        return attribute(path());
      case 9:
      case 10:
        return overwrite(path());
      case 11:
        return deep(place());
      default:
        return resize(path());
    }
  }

  void array(const std::string& at) {
    clear(at);
    const std::size_t kind = script.below(kTypes.size());
    const hid_t type = make_type(kind, script);
    std::vector<hsize_t> shape(script.below(5));
    for (hsize_t& size : shape) size = script.size();
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    const std::size_t layout = script.below(6);
    std::vector<hsize_t> most = shape;
    if (layout == 1) H5Pset_layout(creation, H5D_COMPACT);
    if (layout == 2 || layout == 3) {
      std::vector<hsize_t> chunk = shape;
      for (hsize_t& size : chunk) size = std::max<hsize_t>(1, script.size() % (1 << 22));
      if (!chunk.empty()) H5Pset_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
      std::ranges::fill(most, H5S_UNLIMITED);
      for (std::size_t i = layout == 2 ? 0 : 1 + script.below(3); i > 0; --i) filter(creation);
    }
    if (layout == 4) H5Pset_external(creation, "/dev/shm/elsewhere.bin", 0, H5F_UNLIMITED);
    const hid_t space =
        shape.empty() ? H5Screate(script.below(2) == 0 ? H5S_SCALAR : H5S_NULL)
                      : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), most.data());
    if (layout == 5) H5Pset_virtual(creation, space, "elsewhere.h5", "/train/features", space);
    const hid_t made =
        H5Dcreate2(file, at.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (made >= 0 && script.below(2) == 0) fill(made);
    H5Dclose(made);
    H5Sclose(space);
    H5Pclose(creation);
    H5Tclose(type);
  }

  /// HDF5's nbit and scaleoffset crash it while it writes.
  void filter(hid_t creation) {
    switch (script.below(4)) {
      case 0:
        H5Pset_shuffle(creation);
        return;
      case 1:
        H5Pset_fletcher32(creation);
        return;
      default:
        H5Pset_deflate(creation, 9);
    }
  }

  /// The values of a chunk: HDF5 makes a whole one to write a single value.
  static double chunk_values(hid_t array) {
    const hid_t creation = H5Dget_create_plist(array);
    std::array<hsize_t, H5S_MAX_RANK> chunk{};
    double values = 1;
    if (H5Pget_layout(creation) == H5D_CHUNKED)
      for (int i = H5Pget_chunk(creation, H5S_MAX_RANK, chunk.data()); i > 0; --i)
        values *= static_cast<double>(chunk[static_cast<std::size_t>(i - 1)]);
    H5Pclose(creation);
    return values;
  }

  /// One value everywhere, where there are few enough of them.
  void fill(hid_t array) {
    static constexpr std::array kValues = {0.0,
                                           1.0,
                                           -1.0,
                                           0.5,
                                           1e300,
                                           -1e300,
                                           3e38,
                                           1e-40,
                                           4096.0,
                                           1048576.0,
                                           1e18,
                                           std::numeric_limits<double>::infinity(),
                                           std::numeric_limits<double>::quiet_NaN()};
    const double value = kValues[script.below(kValues.size())];
    const hid_t space = H5Dget_space(array), type = H5Dget_type(array);
    std::array<hsize_t, H5S_MAX_RANK> shape{};
    double values =
        H5Sget_simple_extent_type(space) == H5S_NULL ? 0 : 1;  // too many for HDF5 to count
    for (int i = H5Sget_simple_extent_dims(space, shape.data(), nullptr); i > 0; --i)
      values *= static_cast<double>(shape[static_cast<std::size_t>(i - 1)]);
    const auto count = static_cast<std::size_t>(std::min(values, 1e6));
    const H5T_class_t type_class = H5Tget_class(type);
    if (count > 0 && count <= 4096 && chunk_values(array) < 1e6) {
      if (type_class == H5T_FLOAT || type_class == H5T_INTEGER) {
        std::vector<double> numbers(count, value);
        if (script.below(2) == 0) std::fill(numbers.begin() + 1, numbers.end(), 0.0);
        H5Dwrite(array, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers.data());
      } else if (type_class == H5T_STRING && H5Tis_variable_str(type) == 0) {
        std::string text;
        const std::size_t size = std::min<std::size_t>(H5Tget_size(type), 64);
        for (std::size_t i = 0; i < size; ++i) text += static_cast<char>(script.byte());
        text.resize(H5Tget_size(type) * count);
        H5Dwrite(array, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data());
      }
    }
    H5Tclose(type);
    H5Sclose(space);
  }

  void overwrite(const std::string& at) {
    const hid_t array = H5Dopen2(file, at.c_str(), H5P_DEFAULT);
    if (array < 0) return;
    fill(array);
    H5Dclose(array);
  }

  void attribute(const std::string& at) {
    static constexpr std::array kNames = {"kind", "model", "id_dataset", "format", "new"};
    const char* name = kNames[script.below(kNames.size())];
    const hid_t object = H5Oopen(file, at.c_str(), H5P_DEFAULT);
    if (object < 0) return;
    H5Adelete(object, name);
    const std::size_t kind = script.below(kTypes.size());
    const hid_t type = make_type(kind, script);
    const hsize_t count = script.below(4);
    const hid_t space = count == 0   ? H5Screate(H5S_SCALAR)
                        : count == 3 ? H5Screate(H5S_NULL)
                                     : H5Screate_simple(1, &count, nullptr);
    const hid_t made = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (made >= 0 && kind == 11 && count < 3 && script.below(4) > 0) {
      const std::string text(script.size() % 5000, 'n');
      const std::array<const char*, 2> texts{script.below(2) == 0 ? "near" : text.c_str(), ""};
      H5Awrite(made, type, static_cast<const void*>(texts.data()));
    }
    H5Aclose(made);
    H5Sclose(space);
    H5Tclose(type);
    H5Oclose(object);
  }

  void deep(const std::string& at) {
    std::string name = at;
    clear(at);
    hid_t group = H5Gcreate2(file, at.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (std::size_t depth = script.size() % 500; depth > 0 && group >= 0; --depth) {
      const hid_t inner = H5Gcreate2(group, "a", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
      H5Gclose(group);
      group = inner;
    }
    if (group >= 0) H5Gclose(group);
  }

  /// Another shape for an array that can grow.
  void resize(const std::string& at) {
    const hid_t array = H5Dopen2(file, at.c_str(), H5P_DEFAULT);
    if (array < 0) return;
    const hid_t space = H5Dget_space(array);
    std::vector<hsize_t> shape(H5S_MAX_RANK);
    const int rank = H5Sget_simple_extent_dims(space, shape.data(), nullptr);
    double values = 1;
    for (int i = 0; i < rank; ++i)
      values *= static_cast<double>(shape[static_cast<std::size_t>(i)]);
    if (rank > 0 && values < 1e6) {  // HDF5 looks for every chunk that goes, written or not
      shape[script.below(static_cast<std::size_t>(rank))] = script.size();
      H5Dset_extent(array, shape.data());
    }
    H5Sclose(space);
    H5Dclose(array);
  }

  /// A first chunk that gzip did not make, or that unpacks to far more than a chunk. One that unpacks to less is a
  /// known fault of HDF5's; so it is when others edit the array afterwards.
  void damage(const std::string& at) {
    const hid_t array = H5Dopen2(file, at.c_str(), H5P_DEFAULT);
    if (array < 0) return;
    const hid_t creation = H5Dget_create_plist(array);
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const bool gzip = H5Pget_filter_by_id2(creation, H5Z_FILTER_DEFLATE, &flags, &values, nullptr,
                                           0, nullptr, &config) >= 0;
    H5Pclose(creation);
    Bytes chunk(1 + script.below(40));
    for (std::uint8_t& byte : chunk) byte = script.byte();
    if (script.below(2) == 0) {
      const Bytes zeros(1 << 20);
      uLongf size = compressBound(zeros.size());
      chunk.resize(size);
      compress2(chunk.data(), &size, zeros.data(), zeros.size(), 9);
      chunk.resize(size);
    }
    const std::array<hsize_t, H5S_MAX_RANK> first{};
    const hid_t space = H5Dget_space(array);
    hsize_t chunks = 0;  // without any there is no place for the first one
    if (gzip && chunk_values(array) < 1e5 && H5Dget_num_chunks(array, space, &chunks) >= 0 &&
        chunks > 0)
      H5Dwrite_chunk(array, H5P_DEFAULT, 0, first.data(), chunk.size(), chunk.data());
    H5Sclose(space);
    H5Dclose(array);
  }
};

herr_t add_path(hid_t, const char* name, const H5O_info_t*, void* paths) {
  auto& list = *static_cast<std::vector<std::string>*>(paths);
  list.push_back(std::string(name) == "." ? "/" : "/" + std::string(name));
  return 0;
}

herr_t has_variable_text(hid_t object, const char* name, const H5A_info_t*, void*) {
  const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  if (attribute < 0) return 0;
  const hid_t type = H5Aget_type(attribute);
  const bool variable = type >= 0 && H5Tis_variable_str(type) > 0;
  H5Tclose(type);
  H5Aclose(attribute);
  return variable ? 1 : 0;
}

/// Whether a chunk without filters is short, and the sum of their sizes, which the reader checks, does not tell.
bool has_hidden_short_chunk(hid_t array, hid_t creation) {
  std::array<hsize_t, H5S_MAX_RANK> chunk{};
  const int rank = H5Pget_chunk(creation, H5S_MAX_RANK, chunk.data());
  const hid_t type = H5Dget_type(array), space = H5Dget_space(array);
  const hsize_t bytes = std::accumulate(chunk.begin(), chunk.begin() + std::max(rank, 0),
                                        hsize_t{H5Tget_size(type)}, std::multiplies<>());
  hsize_t chunks = 0;
  bool is_short = false;
  if (H5Dget_num_chunks(array, space, &chunks) >= 0 && H5Dget_storage_size(array) == chunks * bytes)
    for (hsize_t i = 0; i < chunks && !is_short; ++i) {
      hsize_t size = 0;
      is_short = H5Dget_chunk_info(array, space, i, chunk.data(), nullptr, nullptr, &size) < 0 ||
                 size < bytes;
    }
  H5Sclose(space);
  H5Tclose(type);
  return is_short;
}

/// Whether HDF5 itself would read chunks that may not unpack to a chunk: the reader undoes gzip and shuffle
/// (src/dataset_chunks.cc).
bool hdf5_unpacks(hid_t array, hid_t creation) {
  if (H5Pget_layout(creation) != H5D_CHUNKED) return false;
  const int filters = H5Pget_nfilters(creation);
  if (filters <= 0) return has_hidden_short_chunk(array, creation);
  const hid_t type = H5Dget_type(array);
  const std::size_t size = H5Tget_size(type);
  const bool swapped = size > 1 && H5Tget_order(type) != H5T_ORDER_LE;
  H5Tclose(type);
  unsigned options = 0;
  if (swapped || H5Pget_chunk_opts(creation, &options) < 0 || options != 0) return true;
  bool gzip = false;
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0, item = 0;
    std::size_t values = 1;
    const H5Z_filter_t id = H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values,
                                           &item, 0, nullptr, &config);
    const bool shuffle = id == H5Z_FILTER_SHUFFLE && !gzip && item == size;
    if (!shuffle && id != H5Z_FILTER_DEFLATE) return true;
    gzip = gzip || id == H5Z_FILTER_DEFLATE;
  }
  return false;
}

herr_t has_fault(hid_t root, const char* name, const H5O_info_t* info, void*) {
  const hid_t object = H5Oopen(root, name, H5P_DEFAULT);
  if (object < 0) return 0;
  hsize_t position = 0;
  bool fault =
      H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &position, has_variable_text, nullptr) > 0;
  if (info->type == H5O_TYPE_DATASET) {
    const hid_t creation = H5Dget_create_plist(object);
    if (creation >= 0) {
      fault = fault || hdf5_unpacks(object, creation);
      H5Pclose(creation);
    }
  }
  H5Oclose(object);
  return fault ? 1 : 0;
}

}  // namespace

std::filesystem::path scratch_path() {
  static std::filesystem::path last;
  static std::uint64_t number = 0;
  std::error_code ignored;
  if (!last.empty())
    std::filesystem::remove(last, ignored);
  else
    std::atexit([] { scratch_path(); });
  last = fmt::format("/dev/shm/ood-fuzz-{}-{}.h5", getpid(), number++);
  return last;
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
  if (!file) throw std::logic_error("the fuzzer cannot write " + path.string());
}

std::uint8_t Script::byte() {
  if (bytes_.empty()) return 0;
  const std::uint8_t first = bytes_.front();
  bytes_ = bytes_.subspan(1);
  return first;
}

std::uint64_t Script::size() {
  const std::uint64_t chosen = byte();
  if (chosen < 128) return chosen % 16;
  const std::uint64_t power = std::uint64_t{1} << (chosen % 64);
  return chosen < 192 ? power : power - 1;
}

namespace {

void edit_here(const std::filesystem::path& path, Script& script) {
  keep_hdf5_quiet();
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  if (file < 0) throw std::logic_error("the fuzzer cannot open " + path.string());
  std::vector<std::string> paths;
  H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, add_path, &paths, H5O_INFO_BASIC);
  Edit edits{file, script, std::move(paths)};
  for (int i = 0; i < 16 && !script.ended(); ++i) edits.run();
  if (script.below(2) == 1) edits.damage(edits.path());
  H5Fclose(file);
}

}  // namespace

bool edit(const std::filesystem::path& path, Script& script) {
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, STDERR_FILENO);
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(5);  // or never ends
    edit_here(path, script);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool reaches_known_faults(const std::filesystem::path& path) {
  keep_hdf5_quiet();
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) return false;
  bool dense = false;  // HDF5 crashes while it lists them, here too
  for (const char* name : {"/", "/model", "/options", "/state", "/fitted_on", "/calibration",
                           "/calibrated_on", "/head", "/train", "/ood", "/ood/x"}) {
    H5G_info_t info;
    dense = dense || (H5Gget_info_by_name(file, name, &info, H5P_DEFAULT) >= 0 &&
                      info.storage_type == H5G_STORAGE_TYPE_DENSE);
  }
  const bool fault =
      dense || H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, has_fault, nullptr, H5O_INFO_BASIC) > 0;
  H5Fclose(file);
  return fault;
}

void expect_errors(const std::function<void()>& read) {
  try {
    read();
  } catch (const std::invalid_argument&) {
  } catch (const std::domain_error&) {
  } catch (const std::runtime_error&) {
  }
}

}  // namespace ood::fuzz
