/// Rows on their way between a feature file and memory.
#pragma once

#include <string>
#include <vector>

#include "dataset_chunks.h"
#include "hdf5_object.h"
#include "ood/batch.h"

namespace ood {

/// One array of a split. Rows are its only axis, its first, or, in [K, n, D], its second.
struct Field {
  std::string name;            ///< below the group of the split: "features", "layers/block3"
  std::vector<hsize_t> shape;  ///< [n], [n, D] or [K, n, D]

  std::size_t row_axis() const { return shape.size() == 3 ? 1 : 0; }
  Index rows() const { return static_cast<Index>(shape[row_axis()]); }
  Index copies() const { return shape.size() == 3 ? static_cast<Index>(shape[0]) : 1; }
  Index width() const { return shape.size() == 1 ? 1 : static_cast<Index>(shape.back()); }
};

/// The arrays among `wanted` that a source with this info has.
std::vector<Field> fields_of(const SourceInfo& info, const Inputs& wanted);

/// A field's open dataset.
struct FieldArray {
  Field field;
  hdf5::Object array;
  std::string dtype;                       ///< as ArrayInfo has it
  std::unique_ptr<PackedChunks> chunks{};  ///< if they are unpacked here and not by HDF5
};

/// For reading rows. Call it inside a Section. errors std::invalid_argument: the array has not the shape of the field.
FieldArray open_for_reading(Field field, hdf5::Object array);

/// Reads rows [begin, begin + count) into the first rows of a row-major array that has room for
/// `capacity` rows. errors std::runtime_error: HDF5 cannot read them.
void read_rows(const FieldArray& from, Index begin, Index count, float* to, Index capacity);
/// The same for the array of `to` that the field is named after; labels may be too large for int64
/// (std::invalid_argument).
void read_rows(const FieldArray& from, Index begin, Index count, BatchBuffer& to);

/// Appends the rows of `from` behind row `begin` of the dataset, which grows. errors
/// std::runtime_error: HDF5 cannot write them. std::invalid_argument: too large for float16.
void write_rows(const FieldArray& to, Index begin, BatchBuffer& from);

}  // namespace ood
