#include "dataset_scores.h"

#include <algorithm>
#include <functional>
#include <span>
#include <vector>

#include "hdf5_object.h"
#include "partial_file.h"

namespace ood {

namespace {

using hdf5::check;
using hdf5::Handle;
using hdf5::own;

constexpr std::size_t kChunkRows = 16'384;

/// One array that grows. Values are gathered until they fill a chunk: HDF5 keeps none that it would have to
/// write when it closes.
template <class T>
struct Column {
  Handle array;
  hid_t type = H5I_INVALID_HID;  // in memory
  std::string where;
  std::vector<T> chunk;
  hsize_t written = 0;

  void append(std::span<const T> values) {
    while (!values.empty()) {
      const std::size_t count = std::min(values.size(), kChunkRows - chunk.size());
      chunk.insert(chunk.end(), values.begin(),
                   values.begin() + static_cast<std::ptrdiff_t>(count));
      values = values.subspan(count);
      if (chunk.size() == kChunkRows) flush();
    }
  }
  void flush() {
    if (chunk.empty()) return;
    const hsize_t more = chunk.size(), size = written + more;
    check(H5Dset_extent(array, &size), where);
    const Handle file_space = own(H5Dget_space(array), H5Sclose, where);
    check(H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &written, nullptr, &more, nullptr),
          where);
    const Handle memory_space = own(H5Screate_simple(1, &more, nullptr), H5Sclose, where);
    check(H5Dwrite(array, type, memory_space, file_space, H5P_DEFAULT, chunk.data()), where);
    written = size;
    chunk.clear();
  }
};

}  // namespace

struct ScoreArrays::Impl {
  PartialFile whole;
  std::string name;  // of the file, in errors
  Handle file;
  Column<float> score;
  Column<double> p_value;          // no array where the model is not calibrated
  Column<unsigned char> accepted;  // as that

  Impl(const std::filesystem::path& path, bool calibrated);
  ~Impl() { discard(); }

  template <class T>
  Column<T> create(const char* column, hid_t type, hid_t memory_type) const {
    const std::string where = name + ": cannot be written";
    const Handle creation = hdf5::timeless(H5P_DATASET_CREATE);
    const hsize_t chunk = kChunkRows, none = 0, any = H5S_UNLIMITED;
    check(H5Pset_chunk(creation, 1, &chunk), where);
    check(H5Pset_shuffle(creation), where);
    check(H5Pset_deflate(creation, 1), where);
    const Handle access = own(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, where);
    check(H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, 0, 1.0), where);
    const Handle space = own(H5Screate_simple(1, &none, &any), H5Sclose, where);
    return {.array = own(H5Dcreate2(file, column, type, space, H5P_DEFAULT, creation, access),
                         H5Dclose, where),
            .type = memory_type,
            .where = where,
            .chunk = {}};
  }
  void close_arrays() {
    score = {};
    p_value = {};
    accepted = {};
  }
  void discard() {
    if (whole.partial().empty()) return;
    std::error_code ignored;
    // HDF5 writes when it closes, and a failure of that makes it crash at exit: give a full disk room
    if (file >= 0) std::filesystem::resize_file(whole.partial(), 0, ignored);
    close_arrays();
    if (file >= 0) file.close();
    whole.discard();
  }
  /// Runs an action that writes; a file with a part missing is given up.
  void write(const std::function<void()>& action) {
    try {
      const hdf5::Section section;
      action();
    } catch (...) {
      discard();
      throw;
    }
  }
};

ScoreArrays::Impl::Impl(const std::filesystem::path& path, bool calibrated)
    : whole(path), name(path.string()) {
  write([&] {
    file = own(H5Fcreate(whole.partial().c_str(), H5F_ACC_EXCL, hdf5::timeless(H5P_FILE_CREATE),
                         H5P_DEFAULT),
               H5Fclose, name + ": cannot be written");
    score = create<float>("score", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT);
    if (!calibrated) return;
    p_value = create<double>("p_value", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE);
    accepted = create<unsigned char>("accepted", H5T_STD_U8LE, H5T_NATIVE_UCHAR);
  });
}

ScoreArrays::ScoreArrays(const std::filesystem::path& path, bool calibrated)
    : impl_(std::make_unique<Impl>(path, calibrated)) {}

ScoreArrays::~ScoreArrays() = default;

void ScoreArrays::set_attribute(const std::string& name, const std::string& value) {
  impl_->write([&] { hdf5::write_attribute(impl_->file, name, value, impl_->name); });
}

void ScoreArrays::set_attribute(const std::string& name, double value) {
  impl_->write([&] {
    const std::string& where = impl_->name;
    const Handle space = own(H5Screate(H5S_SCALAR), H5Sclose, where);
    const Handle attribute =
        own(H5Acreate2(impl_->file, name.c_str(), H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT),
            H5Aclose, where);
    check(H5Awrite(attribute, H5T_NATIVE_DOUBLE, &value), where);
  });
}

void ScoreArrays::append(std::span<const float> scores, std::span<const double> p_values,
                         std::span<const unsigned char> accepted) {
  impl_->write([&] {
    impl_->score.append(scores);
    impl_->p_value.append(p_values);
    impl_->accepted.append(accepted);
  });
}

void ScoreArrays::close() {
  impl_->write([&] {
    const std::string what = impl_->name + ": cannot be written";
    impl_->score.flush();
    impl_->p_value.flush();
    impl_->accepted.flush();
    check(H5Fflush(impl_->file, H5F_SCOPE_GLOBAL), what);
    impl_->close_arrays();
    check(impl_->file.close(), what);
    impl_->whole.publish();
  });
}

}  // namespace ood
