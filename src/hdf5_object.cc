#include "hdf5_object.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <set>

#include "errors.h"

namespace ood::hdf5 {

namespace {

constexpr std::size_t kMaxAttributeBytes = 1 << 20;
constexpr hsize_t kMaxChunkBytes = hsize_t{1} << 30;
constexpr std::int64_t kPlausibleChunkBytes =
    64 << 20;  // a larger one is not smaller than gzip makes it
constexpr std::int64_t kMaxCompression = 1100;

herr_t refuse_external_link(const char*, const char*, const char*, const char*, unsigned*, hid_t,
                            void*) {
  return -1;
}

/// Access properties under which no link leads out of the file.
Handle inside_this_file() {
  Handle access = own(H5Pcreate(H5P_LINK_ACCESS), H5Pclose, "HDF5");
  check(H5Pset_elink_cb(access, refuse_external_link, nullptr), "HDF5");
  return access;
}

const char* name_of(H5I_type_t type) {
  switch (type) {
    case H5I_GROUP:
      return "a group";
    case H5I_DATASET:
      return "an array";
    default:
      return "a named type";
  }
}

std::optional<Object> find(const Object& parent, const std::string& name, H5I_type_t wanted) {
  Object object{{}, parent.file, (parent.path == "/" ? "/" : parent.path + "/") + name};
  if (check(H5Lexists(parent.id, name.c_str(), H5P_DEFAULT), parent.unreadable()) == 0) return {};
  const Handle access = inside_this_file();
  object.id = {H5Oopen(parent.id, name.c_str(), access), H5Oclose};
  if (object.id < 0) {
    const std::string reason = last_error();
    H5L_info_t link;
    if (H5Lget_info(parent.id, name.c_str(), &link, H5P_DEFAULT) >= 0 && link.type != H5L_TYPE_HARD)
      throw_invalid("{} has a link that leads nowhere in this file, expected {}", object.where(),
                    name_of(wanted));
    throw std::runtime_error(fmt::format("{} cannot be opened: {}", object.where(), reason));
  }
  const H5I_type_t got = H5Iget_type(object.id);
  if (got != wanted)
    throw_invalid("{} has {}, expected {}", object.where(), name_of(got), name_of(wanted));
  return object;
}

herr_t append_name(hid_t, const char* name, const H5L_info_t*, void* names) {
  try {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
    return 0;
  } catch (...) {  // must not pass through C
    return -1;
  }
}

std::string name_of_float(hid_t type) {
  const Handle half = half_type();
  const H5T_order_t order = H5Tget_order(type);
  check(H5Tset_order(half, order == H5T_ORDER_BE ? H5T_ORDER_BE : H5T_ORDER_LE), "HDF5");
  if (H5Tequal(type, half) > 0) return "float16";
  if (H5Tequal(type, H5T_IEEE_F32LE) > 0 || H5Tequal(type, H5T_IEEE_F32BE) > 0) return "float32";
  if (H5Tequal(type, H5T_IEEE_F64LE) > 0 || H5Tequal(type, H5T_IEEE_F64BE) > 0) return "float64";
  return fmt::format("non-standard {}-bit float", 8 * H5Tget_size(type));
}

std::string name_of_integer(hid_t type) {
  const std::size_t bits = 8 * H5Tget_size(type);
  if (bits > 64 || !std::has_single_bit(bits) || H5Tget_precision(type) != bits)
    return fmt::format("non-standard {}-bit integer", bits);
  return fmt::format("{}int{}", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
}

/// The name of a type as NumPy would say it, or of its class.
std::string name_of_type(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_FLOAT:
      return name_of_float(type);
    case H5T_INTEGER:
      return name_of_integer(type);
    case H5T_STRING:
      return "string";
    case H5T_COMPOUND:
      return "compound";
    case H5T_ENUM:
      return "enum";
    case H5T_BITFIELD:
      return "bitfield";
    case H5T_ARRAY:
      return "array";
    case H5T_VLEN:
      return "variable-length";
    case H5T_REFERENCE:
      return "reference";
    default:
      return "opaque";
  }
}

struct Filter {
  H5Z_filter_t id;
  std::string name;
};

std::vector<Filter> filters_of(hid_t creation) {
  std::vector<Filter> filters;
  const int count = H5Pget_nfilters(creation);
  for (int i = 0; i < count; ++i) {
    char name[64] = "";
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t id = H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values,
                                           nullptr, sizeof name, name, &config);
    name[sizeof name - 1] = '\0';
    switch (id) {
      case H5Z_FILTER_DEFLATE:
        filters.push_back({id, "gzip"});
        break;
      case H5Z_FILTER_SHUFFLE:
        filters.push_back({id, "shuffle"});
        break;
      default:
        filters.push_back({id, *name != '\0' ? name : fmt::format("number {}", id)});
    }
  }
  return filters;
}

Handle creation_properties(hid_t array) {
  return own(H5Dget_create_plist(array), H5Pclose, "HDF5");
}

std::string describe_storage(hid_t array) {
  const Handle creation = creation_properties(array);
  switch (H5Pget_layout(creation)) {
    case H5D_COMPACT:
      return "compact";
    case H5D_CONTIGUOUS:
      return H5Pget_external_count(creation) > 0 ? "external" : "contiguous";
    case H5D_CHUNKED:
      break;
    default:
      return "virtual";
  }
  std::string text = fmt::format("chunks {}", fmt::join(chunk_shape(array), " x "));
  for (const Filter& filter : filters_of(creation)) text += ", " + filter.name;
  return text;
}

}  // namespace

Handle timeless(hid_t property_class) {
  Handle properties = own(H5Pcreate(property_class), H5Pclose, "HDF5");
  check(H5Pset_obj_track_times(properties, false), "HDF5");
  return properties;
}

Handle half_type() {
  Handle type = own(H5Tcopy(H5T_NATIVE_FLOAT), H5Tclose, "HDF5");
  check(H5Tset_fields(type, 15, 10, 5, 0, 10), "HDF5");
  check(H5Tset_size(type, 2), "HDF5");
  check(H5Tset_ebias(type, 15), "HDF5");
  return type;
}

void require_file(const std::filesystem::path& path) {
  const std::string name = path.string();
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::not_found)
    throw std::runtime_error(name + ": no such file");
  if (type == std::filesystem::file_type::directory)
    throw std::runtime_error(name + ": is a directory, expected an HDF5 file");
  if (type == std::filesystem::file_type::none)
    throw std::runtime_error(name + ": " + error.message());
  if (type != std::filesystem::file_type::regular)
    throw std::runtime_error(name + ": is not a regular file, expected an HDF5 file");
}

Handle open_file(const std::filesystem::path& path) {
  const std::string name = path.string();
  require_file(path);
  const Handle access = own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, name);
#if H5_VERSION_GE(1, 10, 7)
  check(H5Pset_file_locking(access, false, true), name);
#endif
  Handle file(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
  if (file >= 0) return file;
  const std::string reason = last_error();
  // a file that the application itself has open with locks can be opened in the same way only
  file = {H5Fopen(name.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose};
  if (file >= 0) return file;
  if (H5Fis_hdf5(name.c_str()) == 0) throw std::runtime_error(name + ": is not an HDF5 file");
  throw std::runtime_error(fmt::format("{}: cannot be opened: {}", name, reason));
}

Object open_root(hid_t file, const std::string& file_name) {
  return {own(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose, file_name + ": / cannot be read"),
          file_name, "/"};
}

std::vector<std::string> names_in(const Object& group) {
  std::vector<std::string> names;
  hsize_t position = 0;
  check(H5Literate(group.id, H5_INDEX_NAME, H5_ITER_INC, &position, append_name, &names),
        group.unreadable());
  return names;
}

std::optional<Object> find_group(const Object& parent, const std::string& name) {
  return find(parent, name, H5I_GROUP);
}

std::optional<Object> find_array(const Object& parent, const std::string& name) {
  return find(parent, name, H5I_DATASET);
}

std::string string_attribute(const Object& object, const std::string& name) {
  const std::string where = fmt::format("{}: attribute {}", object.where(), name);
  const std::string unreadable = where + " cannot be read";
  if (check(H5Aexists(object.id, name.c_str()), unreadable) == 0) return "";
  const Handle attribute = own(H5Aopen(object.id, name.c_str(), H5P_DEFAULT), H5Aclose, unreadable);
  const Handle type = own(H5Aget_type(attribute), H5Tclose, unreadable);
  const Handle space = own(H5Aget_space(attribute), H5Sclose, unreadable);
  if (H5Tget_class(type) != H5T_STRING)
    throw_invalid("{} has {} values, expected a string", where, name_of_type(type));
  if (const auto count = H5Sget_simple_extent_npoints(space); count != 1)
    throw_invalid("{} has {} values, expected one string", where, count);

  if (H5Tis_variable_str(type) > 0) {
    const Handle memory_type = own(H5Tget_native_type(type, H5T_DIR_ASCEND), H5Tclose, unreadable);
    char* text = nullptr;
    check(H5Aread(attribute, memory_type, static_cast<void*>(&text)), unreadable);
    std::string value = text == nullptr ? "" : text;
    H5free_memory(text);
    return value;
  }
  const std::size_t size = H5Tget_size(type);
  if (size > kMaxAttributeBytes)
    throw_invalid("{} has {} bytes, expected at most {}", where, size, kMaxAttributeBytes);
  std::string value(size, '\0');
  check(H5Aread(attribute, type, value.data()), unreadable);
  value.resize(std::min(value.find('\0'), size));
  if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) value.resize(value.find_last_not_of(' ') + 1);
  return value;
}

void write_attribute(hid_t object, const std::string& name, const std::string& value,
                     const std::string& where) {
  const Handle type = own(H5Tcopy(H5T_C_S1), H5Tclose, where);
  check(H5Tset_size(type, H5T_VARIABLE), where);
  check(H5Tset_cset(type, H5T_CSET_UTF8), where);
  const Handle space = own(H5Screate(H5S_SCALAR), H5Sclose, where);
  if (check(H5Aexists(object, name.c_str()), where) > 0)
    check(H5Adelete(object, name.c_str()), where);
  const Handle attribute =
      own(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, where);
  const char* text = value.c_str();
  check(H5Awrite(attribute, type, static_cast<const void*>(&text)), where);
}

ArrayInfo describe(const Object& array) {
  const Handle space = own(H5Dget_space(array.id), H5Sclose, array.unreadable());
  const Handle type = own(H5Dget_type(array.id), H5Tclose, array.unreadable());
  const int rank = check(H5Sget_simple_extent_ndims(space), array.unreadable());
  std::vector<hsize_t> shape(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space, shape.data(), nullptr), array.unreadable());
  return {.path = array.path,
          .shape = {shape.begin(), shape.end()},
          .dtype = name_of_type(type),
          .storage = describe_storage(array.id),
          .bytes = static_cast<std::int64_t>(H5Dget_storage_size(array.id))};
}

std::vector<hsize_t> chunk_shape(hid_t array) {
  const Handle creation = creation_properties(array);
  if (H5Pget_layout(creation) != H5D_CHUNKED) return {};
  std::vector<hsize_t> shape(H5S_MAX_RANK);
  shape.resize(
      static_cast<std::size_t>(check(H5Pget_chunk(creation, H5S_MAX_RANK, shape.data()), "HDF5")));
  return shape;
}

void require_stored(const Object& array, const ArrayInfo& info) {
  if (info.storage == "external" || info.storage == "virtual")
    throw_invalid("{} has {} storage, expected values in this file", array.where(), info.storage);
  const std::vector<hsize_t> chunk = chunk_shape(array.id);
  if (chunk.empty()) {
    if (info.bytes == 0) throw_invalid("{} has no values, they were never written", array.where());
    return;
  }
  const std::vector<Filter> filters = filters_of(creation_properties(array.id));
  std::set<H5Z_filter_t> seen;
  for (const Filter& filter : filters) {
    if (H5Zfilter_avail(filter.id) <= 0)
      throw std::runtime_error(fmt::format(
          "{} has filter {}, expected one that this HDF5 library can undo, such as gzip",
          array.where(), filter.name));
    // gzip in gzip: a few bytes become a million times as many
    if (!seen.insert(filter.id).second)
      throw_invalid("{} has filter {} twice, expected it once", array.where(), filter.name);
  }

  const Handle type = own(H5Dget_type(array.id), H5Tclose, array.unreadable());
  const std::size_t item = H5Tget_size(type);
  hsize_t bytes = item, expected = 1;
  for (std::size_t axis = 0; axis < chunk.size(); ++axis) {
    if (chunk[axis] > kMaxChunkBytes / bytes)  // the product may wrap: a file says what it likes
      throw_invalid("{} has chunks of {} values of {} bytes, expected at most {} bytes",
                    array.where(), fmt::join(chunk, " x "), item, kMaxChunkBytes);
    bytes *= chunk[axis];
    expected *= (static_cast<hsize_t>(info.shape[axis]) + chunk[axis] - 1) / chunk[axis];
  }
  const auto chunk_bytes = static_cast<std::int64_t>(bytes);
  const Handle space = own(H5Dget_space(array.id), H5Sclose, array.unreadable());
  hsize_t written = 0;
  check(H5Dget_num_chunks(array.id, space, &written), array.unreadable());
  // a chunk that was never written would be read as zeros
  if (written < expected)
    throw_invalid("{} has {} chunks written, expected {}", array.where(), written, expected);
  // HDF5 1.10.8 reads behind the end of a chunk that is short; it tells each one's size in time quadratic in their
  // number alone, so this is their sum
  if (filters.empty() && static_cast<hsize_t>(info.bytes) != written * bytes)
    throw_invalid("{} has {} chunks of {} bytes but {} bytes in all, expected {}", array.where(),
                  written, bytes, info.bytes, written * bytes);
  // a small file that claims large chunks must not make HDF5 allocate one
  if (chunk_bytes > kPlausibleChunkBytes && chunk_bytes / kMaxCompression > info.bytes)
    throw_invalid("{} has chunks of {} bytes but {} bytes in all, expected less compression",
                  array.where(), chunk_bytes, info.bytes);
}

}  // namespace ood::hdf5
