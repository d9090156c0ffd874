#include "hdf5_scores.h"

#include <functional>
#include <vector>

#include "hdf5_object.h"
#include "partial_file.h"

namespace ood {

namespace {

using hdf5::check;
using hdf5::Handle;
using hdf5::own;

constexpr hsize_t kChunkRows = 16'384;

/// One array that grows.
struct Column {
  Handle array;
  hid_t type;  // in memory
  std::string where;
  hsize_t written = 0;

  void append(const void* values, std::size_t count) {
    if (count == 0) return;
    const hsize_t more = count, size = written + more;
    check(H5Dset_extent(array, &size), where);
    const Handle file_space = own(H5Dget_space(array), H5Sclose, where);
    check(H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &written, nullptr, &more, nullptr),
          where);
    const Handle memory_space = own(H5Screate_simple(1, &more, nullptr), H5Sclose, where);
    check(H5Dwrite(array, type, memory_space, file_space, H5P_DEFAULT, values), where);
    written = size;
  }
};

}  // namespace

struct ScoreArrays::Impl {
  PartialFile whole;
  std::string name;  // of the file, in errors
  Handle file;
  std::vector<Column> columns;

  Impl(const std::filesystem::path& path, bool calibrated);
  ~Impl() { discard(); }

  Column create(const char* column, hid_t type, hid_t memory_type) const {
    const std::string where = name + ": cannot be written";
    const Handle creation = hdf5::timeless(H5P_DATASET_CREATE);
    check(H5Pset_chunk(creation, 1, &kChunkRows), where);
    check(H5Pset_shuffle(creation), where);
    check(H5Pset_deflate(creation, 1), where);
    const hsize_t none = 0, any = H5S_UNLIMITED;
    const Handle space = own(H5Screate_simple(1, &none, &any), H5Sclose, where);
    return {own(H5Dcreate2(file, column, type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose,
                where),
            memory_type, where};
  }
  void discard() {
    if (whole.partial().empty()) return;
    std::error_code ignored;
    // HDF5 writes when it closes, and a failure of that makes it crash at exit: give a full disk room
    if (file >= 0) std::filesystem::resize_file(whole.partial(), 0, ignored);
    columns.clear();
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
    columns.push_back(create("score", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT));
    if (!calibrated) return;
    columns.push_back(create("p_value", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE));
    columns.push_back(create("accepted", H5T_STD_U8LE, H5T_NATIVE_UCHAR));
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
    impl_->columns[0].append(scores.data(), scores.size());
    if (impl_->columns.size() == 1) return;
    impl_->columns[1].append(p_values.data(), p_values.size());
    impl_->columns[2].append(accepted.data(), accepted.size());
  });
}

void ScoreArrays::close() {
  impl_->write([&] {
    const std::string what = impl_->name + ": cannot be written";
    check(H5Fflush(impl_->file, H5F_SCOPE_GLOBAL), what);
    impl_->columns.clear();
    check(impl_->file.close(), what);
    impl_->whole.publish();
  });
}

}  // namespace ood
