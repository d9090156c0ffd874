#include "dataset_rows.h"

#include <fmt/ranges.h>

#include <cmath>

#include "errors.h"

namespace ood {

namespace {

using hdf5::check;
using hdf5::Handle;
using hdf5::own;

/// The same rows in the file and in an array in memory, as two selections.
struct RowSelection {
  Handle file, memory;
};

RowSelection select_rows(const FieldArray& array, Index begin, Index count, Index capacity,
                         const std::string& what) {
  const std::size_t axis = array.field.row_axis();
  const int rank = static_cast<int>(array.field.shape.size());
  std::vector<hsize_t> block = array.field.shape, memory_shape = block;
  std::vector<hsize_t> file_start(block.size(), 0), memory_start(block.size(), 0);
  block[axis] = static_cast<hsize_t>(count);
  memory_shape[axis] = static_cast<hsize_t>(capacity);
  file_start[axis] = static_cast<hsize_t>(begin);

  RowSelection rows{own(H5Dget_space(array.array.id), H5Sclose, what),
                    own(H5Screate_simple(rank, memory_shape.data(), nullptr), H5Sclose, what)};
  check(H5Sselect_hyperslab(rows.file, H5S_SELECT_SET, file_start.data(), nullptr, block.data(),
                            nullptr),
        what);
  check(H5Sselect_hyperslab(rows.memory, H5S_SELECT_SET, memory_start.data(), nullptr, block.data(),
                            nullptr),
        what);
  return rows;
}

void transfer_in(const FieldArray& from, Index begin, Index count, hid_t type, void* to,
                 Index capacity) {
  const hdf5::Section section;
  const std::string what = fmt::format("{} cannot be read at rows {} to {}", from.array.where(),
                                       begin, begin + count - 1);
  const RowSelection rows = select_rows(from, begin, count, capacity, what);
  check(H5Dread(from.array.id, type, rows.memory, rows.file, H5P_DEFAULT, to), what);
}

void transfer_out(const FieldArray& to, Index begin, Index count, hid_t type, const void* from,
                  Index capacity) {
  const hdf5::Section section;
  const std::string what = fmt::format("{} cannot be written at rows {} to {}", to.array.where(),
                                       begin, begin + count - 1);
  std::vector<hsize_t> shape = to.field.shape;
  shape[to.field.row_axis()] = static_cast<hsize_t>(begin + count);
  check(H5Dset_extent(to.array.id, shape.data()), what);
  const RowSelection rows = select_rows(to, begin, count, capacity, what);
  check(H5Dwrite(to.array.id, type, rows.memory, rows.file, H5P_DEFAULT, from), what);
}

/// What HDF5 does not unpack itself.
void unpack_rows(const FieldArray& from, Index begin, Index count, const RowTarget& to) {
  from.chunks->read(from.array, begin, count, to,
                    fmt::format("{} cannot be read at rows {} to {}", from.array.where(), begin,
                                begin + count - 1));
}

/// HDF5 converts float16 slowly and rounds it wrongly (65520 becomes 32768): Eigen does it here.
using Halves = Eigen::Array<Eigen::half, Eigen::Dynamic, 1>;

void read_halves(const FieldArray& from, Index begin, Index count, float* to, Index capacity) {
  const Index copies = from.field.copies(), row = from.field.width();
  Halves halves(copies * count * row);
  {
    const hdf5::Section section;
    transfer_in(from, begin, count, hdf5::half_type(), halves.data(), count);
  }
  for (Index k = 0; k < copies; ++k)
    Eigen::Map<Eigen::ArrayXf>(to + k * capacity * row, count * row) =
        halves.segment(k * count * row, count * row).cast<float>();
}

void write_halves(const FieldArray& to, Index begin, Index count, const float* from,
                  Index capacity) {
  const Index copies = to.field.copies(), row = to.field.width();
  Halves halves(copies * count * row);
  for (Index k = 0; k < copies; ++k)
    for (Index i = 0; i < count * row; ++i) {
      const float value = from[k * capacity * row + i];
      const Eigen::half half(value);
      if ((Eigen::numext::isinf)(half) && !std::isinf(value))
        throw_invalid("{} has {} at row {}, expected at most 65504 for float16", to.array.where(),
                      value, begin + i / row);
      halves[k * count * row + i] = half;
    }
  const hdf5::Section section;
  transfer_out(to, begin, count, hdf5::half_type(), halves.data(), count);
}

void read_labels(const FieldArray& from, Index begin, Index count, std::vector<std::int64_t>& to) {
  const bool is_unsigned = from.dtype.starts_with('u');
  const auto capacity = static_cast<Index>(to.size());
  if (from.chunks)
    unpack_rows(from, begin, count, {.labels = to.data(), .capacity = capacity});
  else
    transfer_in(from, begin, count, is_unsigned ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64, to.data(),
                capacity);
  if (!is_unsigned) return;
  for (Index i = 0; i < count; ++i)  // the highest bit is the sign of int64
    if (to[static_cast<std::size_t>(i)] < 0)
      throw_invalid("{} has {} at row {}, expected labels below 2^63", from.array.where(),
                    static_cast<std::uint64_t>(to[static_cast<std::size_t>(i)]), begin + i);
}

float* floats_of(BatchBuffer& buffer, const std::string& field) {
  if (field == "features") return buffer.features.data();
  if (field == "logits") return buffer.logits.data();
  if (field == "copies/features") return buffer.copy_features.data();
  if (field == "copies/logits") return buffer.copy_logits.data();
  return buffer.layers.at(field.substr(field.find('/') + 1)).data();
}

}  // namespace

std::vector<Field> fields_of(const SourceInfo& info, const Inputs& wanted) {
  const auto size = [](Index value) { return static_cast<hsize_t>(value); };
  const hsize_t rows = size(info.rows), copies = size(info.copies);
  std::vector<Field> fields;
  const auto add = [&](bool want, bool has, std::string name, std::vector<hsize_t> shape) {
    if (want && has) fields.push_back({std::move(name), std::move(shape)});
  };
  add(wanted.features, info.has.features, "features", {rows, size(info.dim)});
  add(wanted.logits, info.has.logits, "logits", {rows, size(info.classes)});
  add(wanted.labels, info.has.labels, "labels", {rows});
  for (const auto& [name, width] : info.layers)
    add(wanted.layers, info.has.layers, "layers/" + name, {rows, size(width)});
  add(wanted.copy_features, info.has.copy_features, "copies/features",
      {copies, rows, size(info.dim)});
  add(wanted.copy_logits, info.has.copy_logits, "copies/logits",
      {copies, rows, size(info.classes)});
  return fields;
}

FieldArray open_for_reading(Field field, hdf5::Object array) {
  ArrayInfo info = hdf5::describe(array);
  const std::vector<hsize_t> shape(info.shape.begin(), info.shape.end());
  if (shape != field.shape)  // the file has changed since its structure was read
    throw_invalid("{} has shape [{}], expected [{}]", array.where(), fmt::join(shape, ", "),
                  fmt::join(field.shape, ", "));
  auto chunks = PackedChunks::of(array, info);
  return {std::move(field), std::move(array), std::move(info.dtype), std::move(chunks)};
}

void read_rows(const FieldArray& from, Index begin, Index count, float* to, Index capacity) {
  if (from.chunks)
    unpack_rows(from, begin, count, {.floats = to, .capacity = capacity});
  else if (from.dtype == "float16")
    read_halves(from, begin, count, to, capacity);
  else
    transfer_in(from, begin, count, H5T_NATIVE_FLOAT, to, capacity);
}

void read_rows(const FieldArray& from, Index begin, Index count, BatchBuffer& to) {
  if (from.field.name == "labels")
    read_labels(from, begin, count, to.labels);
  else
    read_rows(from, begin, count, floats_of(to, from.field.name), to.capacity());
}

void write_rows(const FieldArray& to, Index begin, BatchBuffer& from) {
  const Index count = from.rows(), capacity = from.capacity();
  if (to.field.name == "labels")
    transfer_out(to, begin, count, H5T_NATIVE_INT64, from.labels.data(), capacity);
  else if (to.dtype == "float16")
    write_halves(to, begin, count, floats_of(from, to.field.name), capacity);
  else
    transfer_out(to, begin, count, H5T_NATIVE_FLOAT, floats_of(from, to.field.name), capacity);
}

}  // namespace ood
