/// What the files of the bindings share: Python's arrays as views, and the classes that hold C++ objects.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ood/batch.h"
#include "ood/dataset.h"
#include "ood/detector.h"
#include "ood/devices.h"
#include "ood/model_file.h"

namespace ood::python {

namespace py = pybind11;

using FloatArray = py::array_t<float>;
using LabelArray = py::array_t<std::int64_t>;

/// Views on arrays of Python, which it keeps alive. Nothing is copied but the head.
class Arrays {
 public:
  /// float32 arrays of rank 2 (copies: rank 3) whose last axis is contiguous and whose other strides
  /// are whole numbers of floats, int64 labels that are contiguous; std::invalid_argument else.
  Arrays(const std::map<std::string, py::array>& fields,
         const std::map<std::string, py::array>& layers,
         const std::optional<std::pair<py::array, py::array>>& head, std::string name);

  const Batch& batch() const { return batch_; }
  const Head* head() const { return head_ ? &*head_ : nullptr; }
  const std::string& name() const { return name_; }

 private:
  std::vector<py::array> kept_;
  Batch batch_;
  std::optional<Head> head_;
  std::string name_;
};

/// Rows in memory or in a file.
struct Source {
  std::shared_ptr<BatchSource> source;
  py::object owner;  // what the source reads from
};

/// As Python's callers say it.
inline Exec exec_of(int threads, const std::string& device) {
  return {.threads = threads, .device = Device::parse(device)};
}

/// std::runtime_error of files as Python's OSError; of a device it stays a RuntimeError.
template <class Work>
auto with_os_errors(const Work& work) {
  try {
    return work();
  } catch (const DeviceError&) {
    throw;
  } catch (const std::runtime_error& error) {
    py::gil_scoped_acquire hold;
    py::set_error(PyExc_OSError, error.what());
    throw py::error_already_set();
  }
}

/// Text out of a file, which may be no UTF-8: as os.fsdecode makes it, so that it can be given back.
inline py::str text(const std::string& bytes) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogateescape"));
}
inline std::string bytes_of(const py::str& text) {
  const auto bytes = py::reinterpret_steal<py::bytes>(
      PyUnicode_AsEncodedString(text.ptr(), "utf-8", "surrogateescape"));
  if (!bytes) throw py::error_already_set();
  return bytes;
}
/// The same to be read by people alone.
inline py::str shown(const std::string& bytes) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

OptionMap option_map(const py::dict& options);
py::object to_python(const OptionValue& value);
py::dict to_python(const OptionMap& options);
py::dict to_python(const Diagnostics& found);

void bind_datasets(py::module_& module);
void bind_detectors(py::module_& module);
void bind_metrics(py::module_& module);
void bind_partitions(py::module_& module);
void bind_reports(py::module_& module);

}  // namespace ood::python
