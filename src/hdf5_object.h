/// What lies in an HDF5 file that is read: groups, arrays and string attributes.
///
/// All of it must lie in this one file: links and storage that lead to other files are refused.
/// errors std::runtime_error: HDF5 cannot read it. std::invalid_argument: it is not what is asked
/// for. Call these inside a Section.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "hdf5_handle.h"
#include "ood/dataset.h"

namespace ood::hdf5 {

/// An open group or array.
struct Object {
  Handle id;
  std::string file;  ///< as the caller named it
  std::string path;  ///< "/" or "/train/features"

  /// "features.h5: /train/features", for errors
  std::string where() const { return file + ": " + path; }
  std::string unreadable() const { return where() + " cannot be read"; }
};

/// Throws std::runtime_error unless there is a regular file of this name.
void require_file(const std::filesystem::path& path);
/// A file opened for reading. Locks are not taken, so that read-only media and busy files work.
Handle open_file(const std::filesystem::path& path);
/// The root group of an open file.
Object open_root(hid_t file, const std::string& file_name);

/// The names of what a group holds, sorted.
std::vector<std::string> names_in(const Object& group);
/// What a group holds under this name; nothing if it holds no such thing.
std::optional<Object> find_group(const Object& parent, const std::string& name);
std::optional<Object> find_array(const Object& parent, const std::string& name);

/// A string attribute, of fixed or variable length; "" where absent.
std::string string_attribute(const Object& object, const std::string& name);

/// Shape, type and storage of an array.
ArrayInfo describe(const Object& array);
/// The shape of an array's chunks; empty if it has none.
std::vector<hsize_t> chunk_shape(hid_t array);
/// Throws unless all values of the array are stored, in this file, and can be decompressed here.
void require_stored(const Object& array, const ArrayInfo& info);

/// Creation properties without time stamps: the same content gives the same bytes.
Handle timeless(hid_t property_class);

/// IEEE 754 half precision in this machine's byte order; HDF5 has no name for it.
Handle half_type();

}  // namespace ood::hdf5
