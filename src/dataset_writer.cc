#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <functional>

#include "dataset_layout.h"
#include "dataset_rows.h"
#include "errors.h"
#include "ood/dataset.h"
#include "partial_file.h"

namespace ood {

namespace {

using hdf5::check;
using hdf5::Handle;
using hdf5::own;
using hdf5::timeless;

constexpr Index kChunkRows = 1024;
constexpr Index kMaxChunkBytes = 16 << 20;

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == name.npos;
}

bool is_split_name(std::string_view name) {
  if (std::ranges::find(kSplits, name) != kSplits.end()) return true;
  const std::size_t slash = name.find('/');
  return slash != name.npos &&
         std::ranges::find(kSplitFamilies, name.substr(0, slash)) != kSplitFamilies.end() &&
         is_plain_name(name.substr(slash + 1));
}

/// Link properties: names are UTF-8, missing groups on the way are made.
Handle link_properties() {
  Handle properties = own(H5Pcreate(H5P_LINK_CREATE), H5Pclose, "HDF5");
  check(H5Pset_create_intermediate_group(properties, 1), "HDF5");
  check(H5Pset_char_encoding(properties, H5T_CSET_UTF8), "HDF5");
  return properties;
}

Handle float_type(FloatType type) {
  switch (type) {
    case FloatType::float16: {
      Handle half = hdf5::half_type();
      check(H5Tset_order(half, H5T_ORDER_LE), "HDF5");
      return half;
    }
    case FloatType::float32:
      return own(H5Tcopy(H5T_IEEE_F32LE), H5Tclose, "HDF5");
    default:
      return own(H5Tcopy(H5T_IEEE_F64LE), H5Tclose, "HDF5");
  }
}

/// h5py gives strings of variable length as str, those of fixed length as bytes.
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

/// A split that is being written. Rows are gathered until they fill a chunk, so that the bytes do
/// not depend on how the rows were cut into batches.
struct OpenSplit {
  Handle group;
  std::vector<FieldArray> arrays;
  BatchBuffer buffer;
  std::string kind;
  Index written = 0;

  void append(const Batch& batch) {
    for (Index begin = 0; begin < batch.rows();) {
      const Index count = std::min(buffer.capacity() - buffer.rows(), batch.rows() - begin);
      buffer.append(batch.slice(begin, count));
      begin += count;
      if (buffer.rows() == buffer.capacity()) flush();
    }
  }
  void flush() {
    for (const FieldArray& array : arrays) write_rows(array, written, buffer);
    written += buffer.rows();
    buffer.clear(written);
  }
};

}  // namespace

struct DatasetWriter::Impl {
  PartialFile whole;  // where it is written until it is whole
  std::string name;   // of the file, in errors
  Options options;
  Handle file;
  std::map<std::string, OpenSplit, std::less<>> splits;
  SharedSize dim, classes;
  std::map<std::string, SharedSize> layers;  // by field: "layers/block3"
  std::map<std::string, SharedSize> copies;  // by split

  Impl(const std::filesystem::path& target, Options wanted);
  ~Impl() { discard(); }

  void require_open() const {
    if (whole.partial().empty()) throw_invalid("{}: is closed, expected an open file", name);
  }
  /// Gives the file up: it is closed, and nothing of it is left.
  void discard();
  /// Runs an action that writes; a file with a part missing is given up.
  void write(const std::function<void()>& action);

  void require_sizes(const std::string& at, const std::vector<Field>& fields);
  void require_labels(const std::string& at, const Batch& batch) const;
  OpenSplit& open_split(const std::string& split, const SourceInfo& info,
                        std::vector<Field> fields);
  Handle create_array(const std::string& at, const Field& field, hid_t type) const;
  void write_head_array(const std::string& at, const std::vector<hsize_t>& shape,
                        const float* values) const;
};

DatasetWriter::Impl::Impl(const std::filesystem::path& target, Options wanted)
    : whole(target), name(target.string()), options(std::move(wanted)) {
  if (options.gzip_level < 0 || options.gzip_level > 9)
    throw_invalid("{}: gzip_level has {}, expected 0 to 9", name, options.gzip_level);
  const hdf5::Section section;
  file =
      own(H5Fcreate(whole.partial().c_str(), H5F_ACC_EXCL, timeless(H5P_FILE_CREATE), H5P_DEFAULT),
          H5Fclose, name + ": cannot be created");
}

void DatasetWriter::Impl::discard() {
  if (whole.partial().empty()) return;
  std::error_code ignored;
  // HDF5 writes when it closes, and a failure of that makes it crash at exit: give a full disk room
  if (file >= 0) std::filesystem::resize_file(whole.partial(), 0, ignored);
  splits.clear();
  if (file >= 0) file.close();
  whole.discard();
}

void DatasetWriter::Impl::write(const std::function<void()>& action) {
  try {
    action();
  } catch (...) {
    discard();
    throw;
  }
}

void DatasetWriter::Impl::require_sizes(const std::string& at, const std::vector<Field>& fields) {
  // kept only if all fields fit: a refused batch leaves no trace
  auto new_dim = dim, new_classes = classes;
  auto new_layers = layers;
  auto new_copies = copies;
  for (const Field& field : fields) {
    if (field.name == "labels") continue;
    const std::string field_path = at + "/" + field.name;
    const bool is_layer = field.name.starts_with("layers/");
    if (is_layer && !is_plain_name(field.name.substr(field.name.find('/') + 1)))
      throw_invalid("{}: {} has a name with a slash or dots, expected a plain one", name,
                    field_path);
    const Index values = field.copies() * field.width();
    if (values < 1 || values > kMaxRowValues)
      throw_invalid("{}: {} has {} values in a row, expected 1 to {}", name, field_path, values,
                    kMaxRowValues);
    SharedSize& width = is_layer                           ? new_layers[field.name]
                        : field.name.ends_with("features") ? new_dim
                                                           : new_classes;
    width.require(field.width(), name, field_path, "columns");
    if (field.shape.size() == 3) new_copies[at].require(field.copies(), name, field_path, "copies");
  }
  dim = new_dim;
  classes = new_classes;
  layers = std::move(new_layers);
  copies = std::move(new_copies);
}

void DatasetWriter::Impl::require_labels(const std::string& at, const Batch& batch) const {
  if (!batch.labels) return;
  const auto negative = std::ranges::find_if(*batch.labels, [](auto label) { return label < 0; });
  if (negative != batch.labels->end())
    throw_invalid("{}: {}/labels has {} at row {} of the batch, expected 0 or more", name, at,
                  *negative, negative - batch.labels->begin());
}

OpenSplit& DatasetWriter::Impl::open_split(const std::string& split, const SourceInfo& info,
                                           std::vector<Field> fields) {
  const std::string at = "/" + split, where = name + ": " + at;
  const hdf5::Section section;
  Handle group =
      own(H5Gcreate2(file, at.c_str(), link_properties(), timeless(H5P_GROUP_CREATE), H5P_DEFAULT),
          H5Gclose, where);
  const Handle type = float_type(options.float_type);
  std::vector<FieldArray> arrays;
  for (Field& field : fields) {
    field.shape[field.row_axis()] = 0;
    const std::string array_path = at + "/" + field.name;
    hdf5::Object array{
        create_array(array_path, field, field.name == "labels" ? H5T_STD_I64LE : type), name,
        array_path};
    arrays.push_back({std::move(field), std::move(array),
                      options.float_type == FloatType::float16 ? "float16" : ""});
  }
  OpenSplit opened{.group = std::move(group),
                   .arrays = std::move(arrays),
                   .buffer = BatchBuffer(info, info.has, kChunkRows),
                   .kind = ""};
  return splits.emplace(split, std::move(opened)).first->second;
}

Handle DatasetWriter::Impl::create_array(const std::string& at, const Field& field,
                                         hid_t type) const {
  const std::string where = name + ": " + at;
  const std::size_t axis = field.row_axis();
  std::vector<hsize_t> limits = field.shape, chunk = field.shape;
  limits[axis] = H5S_UNLIMITED;
  // a power of two divides kChunkRows, so that rows are always written in whole chunks
  const auto row_bytes = static_cast<Index>(H5Tget_size(type)) * field.width();
  const Index most = std::clamp<Index>(kMaxChunkBytes / row_bytes, 1, kChunkRows);
  chunk[axis] = std::bit_floor(static_cast<hsize_t>(most));
  if (field.shape.size() == 3) chunk[0] = 1;

  const int rank = static_cast<int>(chunk.size());
  const Handle creation = timeless(H5P_DATASET_CREATE);
  check(H5Pset_chunk(creation, rank, chunk.data()), where);
  if (options.gzip_level > 0) {
    check(H5Pset_shuffle(creation), where);
    check(H5Pset_deflate(creation, static_cast<unsigned>(options.gzip_level)), where);
  }
  const Handle access = own(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, where);
  check(H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, 0, 1.0), where);  // whole chunks
  const Handle space =
      own(H5Screate_simple(rank, field.shape.data(), limits.data()), H5Sclose, where);
  return own(H5Dcreate2(file, at.c_str(), type, space, link_properties(), creation, access),
             H5Dclose, where);
}

void DatasetWriter::Impl::write_head_array(const std::string& at, const std::vector<hsize_t>& shape,
                                           const float* values) const {
  const std::string where = name + ": " + at;
  // small, and logits are computed from it: never in half precision
  const Handle type = float_type(std::max(options.float_type, FloatType::float32));
  const Handle space =
      own(H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr), H5Sclose, where);
  const Handle array = own(H5Dcreate2(file, at.c_str(), type, space, link_properties(),
                                      timeless(H5P_DATASET_CREATE), H5P_DEFAULT),
                           H5Dclose, where);
  check(H5Dwrite(array, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), where);
}

DatasetWriter::DatasetWriter(const std::filesystem::path& path, Options options)
    : impl_(std::make_unique<Impl>(path, std::move(options))) {
  if (!impl_->options.model.empty()) set_attribute("model", impl_->options.model);
  if (!impl_->options.id_dataset.empty()) set_attribute("id_dataset", impl_->options.id_dataset);
}

DatasetWriter::~DatasetWriter() = default;

void DatasetWriter::set_attribute(const std::string& name, const std::string& value) {
  impl_->require_open();
  if (name.empty() || (name + value).find('\0') != std::string::npos)
    throw_invalid("{}: attribute {} has no name or a null character", impl_->name, name);
  const hdf5::Section section;
  write_attribute(impl_->file, name, value, fmt::format("{}: attribute {}", impl_->name, name));
}

void DatasetWriter::write_head(const Head& head) {
  Impl& self = *impl_;
  self.require_open();
  if (head.weight.size() == 0 || head.weight.rows() > kMaxRowValues)
    throw_invalid("{}: /head/weight has shape [{}, {}], expected [C, D], each 1 or more", self.name,
                  head.weight.rows(), head.weight.cols());
  if (!head.weight.allFinite() || !head.bias.allFinite())
    throw_invalid("{}: /head has NaN or infinity, expected finite values", self.name);
  auto classes = self.classes, dim = self.dim;  // kept only if all of it fits
  classes.require(head.weight.rows(), self.name, "/head/weight", "rows");
  classes.require(head.bias.size(), self.name, "/head/bias", "entries");
  dim.require(head.weight.cols(), self.name, "/head/weight", "columns");
  self.classes = classes;
  self.dim = dim;
  const auto rows = static_cast<hsize_t>(head.weight.rows());
  const auto columns = static_cast<hsize_t>(head.weight.cols());
  const hdf5::Section section;
  self.write([&] {
    self.write_head_array("/head/weight", {rows, columns}, head.weight.data());
    self.write_head_array("/head/bias", {rows}, head.bias.data());
  });
}

void DatasetWriter::append(std::string_view split, const Batch& batch, std::string_view kind) {
  Impl& self = *impl_;
  self.require_open();
  const std::string at = "/" + std::string(split);
  if (!is_split_name(split))
    throw_invalid("{}: has no place for split {}, expected {}", self.name, split, kSplitNames);
  if (!is_kind(kind) || !(kind.empty() || has_kind(split)))
    throw_invalid("{}: {} has kind {}, expected {}", self.name, at, kind,
                  has_kind(split) ? "near or far" : "none, which only ood/ and ood_val/ have");
  // a source over the batch checks that its arrays fit together
  const SourceInfo info = MemorySource(batch, nullptr, 1, self.name + ":" + at).info();
  if (info.rows == 0) return;
  self.require_labels(at, batch);
  std::vector<Field> fields = fields_of(info, info.has);

  const auto found = self.splits.find(split);
  if (found != self.splits.end()) {
    const OpenSplit& open = found->second;
    std::vector<std::string> got, expected;
    for (const Field& field : fields) got.push_back(field.name);
    for (const FieldArray& array : open.arrays) expected.push_back(array.field.name);
    if (got != expected)
      throw_invalid("{}: {} has {}, expected {} as before", self.name, at, fmt::join(got, ", "),
                    fmt::join(expected, ", "));
    if (!kind.empty() && !open.kind.empty() && kind != open.kind)
      throw_invalid("{}: {} has kind {}, expected {} as before", self.name, at, kind, open.kind);
  }
  self.require_sizes(at, fields);
  self.write([&] {
    OpenSplit& open = found != self.splits.end()
                          ? found->second
                          : self.open_split(std::string(split), info, std::move(fields));
    if (!kind.empty()) open.kind = kind;
    open.append(batch);
  });
}

void DatasetWriter::close() {
  Impl& self = *impl_;
  self.require_open();
  self.write([&] {
    if (self.splits.empty()) throw_invalid("{}: has no rows, expected a split", self.name);
    const hdf5::Section section;
    for (auto& [split, open] : self.splits) {
      if (open.buffer.rows() > 0) open.flush();
      if (!open.kind.empty())
        write_attribute(open.group, "kind", open.kind, self.name + ": /" + split);
    }
    const std::string what = self.name + ": cannot be written";
    check(H5Fflush(self.file, H5F_SCOPE_GLOBAL), what);
    self.splits.clear();
    check(self.file.close(), what);
    self.whole.publish();
  });
}

}  // namespace ood
