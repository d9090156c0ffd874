#include "model_file_fields.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "errors.h"

namespace ood {

namespace {

using hdf5::check;
using hdf5::Handle;
using hdf5::Object;
using hdf5::own;

/// What a type of ours is called, and is, in the file and in memory.
template <class T>
struct Stored;
template <>
struct Stored<float> {
  static constexpr const char* kName = "float32";
  static hid_t file() { return H5T_IEEE_F32LE; }
  static hid_t memory() { return H5T_NATIVE_FLOAT; }
};
template <>
struct Stored<double> {
  static constexpr const char* kName = "float64";
  static hid_t file() { return H5T_IEEE_F64LE; }
  static hid_t memory() { return H5T_NATIVE_DOUBLE; }
};
template <>
struct Stored<Index> {
  static constexpr const char* kName = "int64";
  static hid_t file() { return H5T_STD_I64LE; }
  static hid_t memory() { return H5T_NATIVE_INT64; }
};
template <>
struct Stored<std::uint8_t> {
  static constexpr const char* kName = "uint8";
  static hid_t file() { return H5T_STD_U8LE; }
  static hid_t memory() { return H5T_NATIVE_UINT8; }
};

Handle text_type(std::size_t size) {
  Handle type = own(H5Tcopy(H5T_C_S1), H5Tclose, "HDF5");
  check(H5Tset_size(type, std::max<std::size_t>(size, 1)), "HDF5");
  check(H5Tset_strpad(type, H5T_STR_NULLPAD), "HDF5");
  check(H5Tset_cset(type, H5T_CSET_UTF8), "HDF5");
  return type;
}

/// A shape without axes is that of a single value.
using Shape = std::vector<hsize_t>;

void write(const Object& group, std::string_view name, hid_t file_type, hid_t memory_type,
           const Shape& shape, const void* values) {
  const std::string where = fmt::format("{}/{} cannot be written", group.where(), name);
  const Handle space =
      shape.empty() ? own(H5Screate(H5S_SCALAR), H5Sclose, where)
                    : own(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr),
                          H5Sclose, where);
  const Handle creation = hdf5::timeless(H5P_DATASET_CREATE);
  const Handle array = own(H5Dcreate2(group.id, std::string(name).c_str(), file_type, space,
                                      H5P_DEFAULT, creation, H5P_DEFAULT),
                           H5Dclose, where);
  if (std::ranges::count(shape, hsize_t{0}) == 0)
    check(H5Dwrite(array, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), where);
}

template <class T>
void write(const Object& group, std::string_view name, const Shape& shape, const T* values) {
  write(group, name, Stored<T>::file(), Stored<T>::memory(), shape, values);
}

void write(const Object& group, std::string_view name, const std::string& text) {
  const Handle type = text_type(text.size());
  write(group, name, type, type, {}, text.c_str());  // at least the null character
}

template <class M>
Shape shape_of(const M& matrix) {
  return {static_cast<hsize_t>(matrix.rows()), static_cast<hsize_t>(matrix.cols())};
}
template <class V>
Shape length_of(const V& values) {
  return {static_cast<hsize_t>(std::ssize(values))};
}

/// Takes from the budget what an array needs in memory. Throws unless its values lie side by side in
/// this file, all of them, and the budget has them.
void require_plain(const Object& array, const ArrayInfo& info, std::size_t item_bytes,
                   std::int64_t& budget) {
  if (info.storage != "contiguous" && info.storage != "compact")
    throw_invalid("{} has {} storage, expected contiguous", array.where(), info.storage);
  constexpr std::int64_t kMostOfNone = 1 << 20;  // [0, D]: something may be made of that width
  auto bytes = static_cast<std::int64_t>(item_bytes);
  if (bytes > budget)
    throw_invalid("{} has {} bytes, more than the file holds", array.where(), bytes);
  for (const std::int64_t length : info.shape) {
    if (length < 0 || (length > 0 && bytes > budget / length) ||
        (bytes == 0 && length > kMostOfNone))
      throw_invalid("{} has shape [{}], more than the file holds", array.where(),
                    fmt::join(info.shape, ", "));
    bytes *= length;
  }
  if (info.bytes != bytes)
    throw_invalid("{} has {} bytes, expected {}", array.where(), info.bytes, bytes);
  budget -= bytes;
}

void read(const Object& array, hid_t type, void* to) {
  check(H5Dread(array.id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to), array.unreadable());
}

/// Reads an array of `rank` axes to where resize(shape) says.
template <class T, class Resize>
void read(const Object& array, std::size_t rank, std::int64_t& budget, const Resize& resize) {
  const ArrayInfo info = hdf5::describe(array);
  if (info.dtype != Stored<T>::kName)
    throw_invalid("{} has type {}, expected {}", array.where(), info.dtype, Stored<T>::kName);
  if (info.shape.size() != rank)
    throw_invalid("{} has {} axes, expected {}", array.where(), info.shape.size(), rank);
  require_plain(array, info, sizeof(T), budget);
  T* to = resize(info.shape);
  if (std::ranges::count(info.shape, 0) == 0) read(array, Stored<T>::memory(), to);
}

template <class T>
T read_value(const Object& array, std::int64_t& budget) {
  T value{};
  read<T>(array, 0, budget, [&](const auto&) { return &value; });
  return value;
}

template <class V>
void read_list(const Object& array, std::int64_t& budget, V& values) {
  using T = std::remove_reference_t<decltype(*values.data())>;
  read<T>(array, 1, budget, [&](const std::vector<std::int64_t>& shape) {
    values.resize(static_cast<decltype(values.size())>(shape[0]));
    return values.data();
  });
}

template <class M>
void read_matrix(const Object& array, std::int64_t& budget, M& values) {
  using T = std::remove_reference_t<decltype(*values.data())>;
  read<T>(array, 2, budget, [&](const std::vector<std::int64_t>& shape) {
    values.resize(shape[0], shape[1]);
    return values.data();
  });
}

std::string read_text(const Object& array, std::int64_t& budget) {
  const ArrayInfo info = hdf5::describe(array);
  const Handle type = own(H5Dget_type(array.id), H5Tclose, array.unreadable());
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0)
    throw_invalid("{} has type {}, expected a string of fixed length", array.where(), info.dtype);
  if (!info.shape.empty())
    throw_invalid("{} has {} axes, expected one string", array.where(), info.shape.size());
  const std::size_t size = H5Tget_size(type);
  require_plain(array, info, size, budget);
  std::string text(size, '\0');
  read(array, type, text.data());  // ASCII or UTF-8, as it is
  text.resize(std::min(text.find('\0'), size));
  return text;
}

}  // namespace

void FieldFileWriter::option(std::string_view name, bool& value, std::string_view) {
  const auto byte = static_cast<std::uint8_t>(value);
  write(groups_.options, name, {}, &byte);
}
void FieldFileWriter::option(std::string_view name, Index& value, const Range&, std::string_view) {
  write(groups_.options, name, {}, &value);
}
void FieldFileWriter::option(std::string_view name, double& value, const Range&, std::string_view) {
  write(groups_.options, name, {}, &value);
}
void FieldFileWriter::option(std::string_view name, std::vector<double>& value, const Range&,
                             std::string_view) {
  write(groups_.options, name, length_of(value), value.data());
}
void FieldFileWriter::option(std::string_view name, std::string& value, std::string_view) {
  write(groups_.options, name, value);
}
void FieldFileWriter::option_choice(std::string_view name, Index& chosen,
                                    std::span<const std::string_view> names, std::string_view) {
  write(groups_.options, name, std::string(names[static_cast<std::size_t>(chosen)]));
}
void FieldFileWriter::state(std::string_view name, Index& value) {
  write(groups_.state, name, {}, &value);
}
void FieldFileWriter::state(std::string_view name, double& value) {
  write(groups_.state, name, {}, &value);
}
void FieldFileWriter::state(std::string_view name, std::string& value) {
  write(groups_.state, name, value);
}
void FieldFileWriter::state(std::string_view name, Matrix& value) {
  write(groups_.state, name, shape_of(value), value.data());
}
void FieldFileWriter::state(std::string_view name, MatrixD& value) {
  write(groups_.state, name, shape_of(value), value.data());
}
void FieldFileWriter::state(std::string_view name, Vector& value) {
  write(groups_.state, name, length_of(value), value.data());
}
void FieldFileWriter::state(std::string_view name, VectorD& value) {
  write(groups_.state, name, length_of(value), value.data());
}
void FieldFileWriter::state(std::string_view name, std::vector<Index>& value) {
  write(groups_.state, name, length_of(value), value.data());
}

Object FieldFileReader::open(const Object& group, std::set<std::string>& seen,
                             std::string_view name) {
  std::string field(name);
  auto array = hdf5::find_array(group, field);
  if (!array) throw_invalid("{} has no {}", group.where(), name);
  seen.insert(std::move(field));
  return std::move(*array);
}

void FieldFileReader::finish() const {
  const auto require_known = [](const Object& group, const std::set<std::string>& seen) {
    for (const std::string& name : hdf5::names_in(group))
      if (!seen.contains(name))
        throw_invalid("{} has {}, expected {}", group.where(), name,
                      seen.empty() ? "nothing" : fmt::format("{}", fmt::join(seen, ", ")));
  };
  if (groups_.options.id >= 0) require_known(groups_.options, seen_options_);
  require_known(groups_.state, seen_state_);
}

bool FieldFileReader::has_option(std::string_view name) const {
  return hdf5::find_array(groups_.options, std::string(name)).has_value();
}
void FieldFileReader::option(std::string_view name, bool& value, std::string_view) {
  const Object array = open(groups_.options, seen_options_, name);
  const auto byte = read_value<std::uint8_t>(array, budget_);
  if (byte > 1) throw_invalid("{} has {}, expected 0 or 1", array.where(), byte);
  value = byte == 1;
}
void FieldFileReader::option(std::string_view name, Index& value, const Range&, std::string_view) {
  value = read_value<Index>(open(groups_.options, seen_options_, name), budget_);
}
void FieldFileReader::option(std::string_view name, double& value, const Range&, std::string_view) {
  value = read_value<double>(open(groups_.options, seen_options_, name), budget_);
}
void FieldFileReader::option(std::string_view name, std::vector<double>& value, const Range&,
                             std::string_view) {
  read_list(open(groups_.options, seen_options_, name), budget_, value);
}
void FieldFileReader::option(std::string_view name, std::string& value, std::string_view) {
  value = read_text(open(groups_.options, seen_options_, name), budget_);
}
void FieldFileReader::option_choice(std::string_view name, Index& chosen,
                                    std::span<const std::string_view> names, std::string_view) {
  const Object array = open(groups_.options, seen_options_, name);
  const std::string choice = read_text(array, budget_);
  const auto found = std::ranges::find(names, choice);
  if (found == names.end())
    throw_invalid("{} has {}, expected one of {}", array.where(), choice, fmt::join(names, ", "));
  chosen = found - names.begin();
}
void FieldFileReader::state(std::string_view name, Index& value) {
  value = read_value<Index>(open(groups_.state, seen_state_, name), budget_);
}
void FieldFileReader::state(std::string_view name, double& value) {
  value = read_value<double>(open(groups_.state, seen_state_, name), budget_);
}
void FieldFileReader::state(std::string_view name, std::string& value) {
  value = read_text(open(groups_.state, seen_state_, name), budget_);
}
void FieldFileReader::state(std::string_view name, Matrix& value) {
  read_matrix(open(groups_.state, seen_state_, name), budget_, value);
}
void FieldFileReader::state(std::string_view name, MatrixD& value) {
  read_matrix(open(groups_.state, seen_state_, name), budget_, value);
}
void FieldFileReader::state(std::string_view name, Vector& value) {
  read_list(open(groups_.state, seen_state_, name), budget_, value);
}
void FieldFileReader::state(std::string_view name, VectorD& value) {
  read_list(open(groups_.state, seen_state_, name), budget_, value);
}
void FieldFileReader::state(std::string_view name, std::vector<Index>& value) {
  read_list(open(groups_.state, seen_state_, name), budget_, value);
}

}  // namespace ood
