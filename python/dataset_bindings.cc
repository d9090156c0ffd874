#include <mutex>

#include "bindings.h"
#include "errors.h"

namespace ood::python {

namespace {

/// How far apart entries lie along an axis, in elements.
template <class T>
Index stride_of(const py::array& array, int axis, const std::string& name) {
  if (array.shape(axis) < 2) return 0;  // nothing moves along it
  if (array.strides(axis) % static_cast<py::ssize_t>(sizeof(T)) != 0)
    throw_invalid("{} has a stride of {} bytes on axis {}, expected whole elements", name,
                  array.strides(axis), axis);
  return array.strides(axis) / static_cast<py::ssize_t>(sizeof(T));
}

template <class T>
const T* data_of(const py::array& array, int rank, const std::string& name) {
  if (!py::isinstance<py::array_t<T>>(array))
    throw_invalid("{} has dtype {}, expected {}", name, std::string(py::str(array.dtype())),
                  std::string(py::str(py::dtype::of<T>())));
  if (array.ndim() != rank) throw_invalid("{} has {} axes, expected {}", name, array.ndim(), rank);
  if (reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0)
    throw_invalid("{} is not aligned", name);
  if (rank > 1 && array.shape(rank - 1) == 0)
    throw_invalid("{} has 0 columns, expected 1 or more", name);
  if (rank > 2 && array.shape(0) == 0) throw_invalid("{} has 0 copies, expected 1 or more", name);
  const bool several = array.size() > 0 && array.shape(rank - 1) > 1;  // NumPy: else any stride
  if (several && stride_of<T>(array, rank - 1, name) != 1)
    throw_invalid("{} has entries of a row apart, expected them side by side", name);
  return static_cast<const T*>(array.data());
}

MatrixView matrix_view(const py::array& array, const std::string& name) {
  const float* data = data_of<float>(array, 2, name);
  const Index stride = stride_of<float>(array, 0, name);
  const Index cols = array.shape(1);
  if (array.shape(0) > 1 && stride < cols)
    throw_invalid("{} has rows {} floats apart, expected {} or more", name, stride, cols);
  return {data, array.shape(0), cols, std::max(stride, cols)};
}

Tensor3View tensor_view(const py::array& array, const std::string& name) {
  const float* data = data_of<float>(array, 3, name);
  std::array<std::size_t, 3> shape{};
  for (std::size_t axis = 0; axis < 3; ++axis)
    shape[axis] = static_cast<std::size_t>(array.shape(static_cast<int>(axis)));
  const std::array<std::ptrdiff_t, 3> strides = {
      stride_of<float>(array, 0, name), stride_of<float>(array, 1, name), shape[2] < 2 ? 0 : 1};
  const std::size_t size = shape[0] * shape[1] * shape[2];
  return xt::adapt(std::move(data), size, xt::no_ownership(), shape, strides);
}

Labels labels_view(const py::array& array) {
  const auto* data = data_of<std::int64_t>(array, 1, "labels");
  return {data, static_cast<std::size_t>(array.shape(0))};
}

/// A copy for Python.
py::array copy_of(const Matrix& matrix) {
  FloatArray array({matrix.rows(), matrix.cols()});
  std::copy_n(matrix.data(), array.size(), array.mutable_data());
  return array;
}

/// One pass over one array, as it is stored.
void read_rows(const Source& rows, const Inputs& wanted,
               const std::function<void(const Batch&)>& visit) {
  py::gil_scoped_release release;
  with_os_errors([&] { rows.source->read(wanted, visit); });
}

/// All rows of one array: "features", "layers/block1", "copies/logits".
py::object read_array(const Source& rows, const py::str& array) {
  const std::string name = bytes_of(array);
  const SourceInfo& info = rows.source->info();
  const Index n = info.rows;
  if (name == "labels") {
    LabelArray out(n);
    std::int64_t* to = out.mutable_data();
    read_rows(rows, {.labels = true},
              [&](const Batch& batch) { std::ranges::copy(*batch.labels, to + batch.first_row); });
    return out;
  }
  const bool copies = name.starts_with("copies/"), layers = name.starts_with("layers/");
  const std::string last = name.substr(name.find('/') + 1);
  const bool logits = last == "logits" && !layers;
  const Index width = layers ? info.layers.at(last) : logits ? info.classes : info.dim;
  if (copies) {
    FloatArray out({info.copies, n, width});
    float* to = out.mutable_data();
    read_rows(rows, {.copy_features = !logits, .copy_logits = logits}, [&](const Batch& batch) {
      const Tensor3View& view = logits ? *batch.copy_logits : *batch.copy_features;
      for (Index k = 0; k < info.copies; ++k)
        for (Index i = 0; i < static_cast<Index>(view.shape()[1]); ++i)
          std::copy_n(view.data() + k * view.strides()[0] + i * view.strides()[1], width,
                      to + (k * n + batch.first_row + i) * width);
    });
    return out;
  }
  FloatArray out({n, width});
  float* to = out.mutable_data();
  const Inputs wanted = {.features = !layers && !logits, .logits = logits, .layers = layers};
  read_rows(rows, wanted, [&](const Batch& batch) {
    const MatrixView& view = layers   ? batch.layers.at(last)
                             : logits ? *batch.logits
                                      : *batch.features;
    Eigen::Map<Matrix>(to + batch.first_row * width, view.rows(), width) = view;
  });
  return out;
}

/// A DatasetWriter for threads of Python: one call after the other, while the interpreter is free.
class Writer {
 public:
  Writer(const std::filesystem::path& path, DatasetWriter::Options options)
      : writer_(path, std::move(options)) {}

  template <class Call>
  void call(const Call& call) {
    py::gil_scoped_release release;
    const std::lock_guard lock(busy_);
    with_os_errors([&] { call(writer_); });
  }

 private:
  DatasetWriter writer_;
  std::mutex busy_;
};

FloatType float_type(const std::string& name) {
  if (name == "float16") return FloatType::float16;
  if (name == "float32") return FloatType::float32;
  if (name == "float64") return FloatType::float64;
  throw_invalid("write: dtype has {}, expected one of float16, float32, float64", name);
}

/// The splits as Python builds its own objects from: name, kind, rows, {array: shape}.
py::list splits_of(const DatasetInfo& info) {
  py::list splits;
  for (const SplitInfo& split : info.splits) {
    py::dict shapes;
    const std::string group = "/" + split.name + "/";
    for (const ArrayInfo& array : info.arrays)
      if (array.path.starts_with(group))
        shapes[text(array.path.substr(group.size()))] =
            py::make_tuple(py::tuple(py::cast(array.shape)), array.dtype);
    splits.append(py::make_tuple(text(split.name), split.kind, split.source.rows, shapes));
  }
  return splits;
}

}  // namespace

Arrays::Arrays(const std::map<std::string, py::array>& fields,
               const std::map<std::string, py::array>& layers,
               const std::optional<std::pair<py::array, py::array>>& head, std::string name)
    : name_(std::move(name)) {
  for (const auto& [field, array] : fields) {
    if (field == "features")
      batch_.features = matrix_view(array, field);
    else if (field == "logits")
      batch_.logits = matrix_view(array, field);
    else if (field == "labels")
      batch_.labels = labels_view(array);
    else if (field == "copy_features")
      batch_.copy_features.emplace(tensor_view(array, field));
    else if (field == "copy_logits")
      batch_.copy_logits.emplace(tensor_view(array, field));
    else
      throw_invalid("unknown array {}", field);
    kept_.push_back(array);
  }
  for (const auto& [layer, array] : layers) {
    batch_.layers[layer] = matrix_view(array, "layers/" + layer);
    kept_.push_back(array);
  }
  if (head) {
    const auto& [weight, bias] = *head;
    const float* data = data_of<float>(bias, 1, "head bias");
    head_.emplace(
        Head{matrix_view(weight, "head weight"), Eigen::Map<const Vector>(data, bias.shape(0))});
  }
}

void bind_datasets(py::module_& module) {
  py::class_<Arrays>(module, "Arrays")
      .def(
          py::init<const std::map<std::string, py::array>&, const std::map<std::string, py::array>&,
                   const std::optional<std::pair<py::array, py::array>>&, std::string>(),
          py::arg("fields"), py::arg("layers"), py::arg("head"), py::arg("name"))
      .def_property_readonly("rows", [](const Arrays& arrays) { return arrays.batch().rows(); })
      .def_property_readonly(
          "addresses",
          [](const Arrays& arrays) {
            std::map<std::string, std::uintptr_t> addresses;
            const auto add = [&](const char* name, const auto& view) {
              if (view) addresses[name] = reinterpret_cast<std::uintptr_t>(view->data());
            };
            const Batch& batch = arrays.batch();
            add("features", batch.features);
            add("logits", batch.logits);
            add("labels", batch.labels);
            add("copy_features", batch.copy_features);
            add("copy_logits", batch.copy_logits);
            for (const auto& [layer, view] : batch.layers)
              addresses["layers/" + layer] = reinterpret_cast<std::uintptr_t>(view.data());
            return addresses;
          },
          "Where the rows that are computed with lie.");

  py::class_<Source>(module, "Source")
      .def(py::init([](py::object owner) {
             const auto& arrays = py::cast<const Arrays&>(owner);
             return Source{std::make_shared<MemorySource>(arrays.batch(), arrays.head(), 16384,
                                                          arrays.name()),
                           std::move(owner)};
           }),
           py::arg("arrays"))
      .def_property_readonly("rows", [](const Source& rows) { return rows.source->info().rows; })
      .def("read", &read_array, py::arg("array"));

  py::class_<Dataset>(module, "Dataset")
      .def(py::init([](const std::filesystem::path& path) {
             return with_os_errors([&] {
               py::gil_scoped_release release;
               return Dataset(path);
             });
           }),
           py::arg("path"))
      .def_property_readonly("path",
                             [](const Dataset& file) { return text(file.info().path.string()); })
      .def_property_readonly("model", [](const Dataset& file) { return shown(file.info().model); })
      .def_property_readonly("id_dataset",
                             [](const Dataset& file) { return shown(file.info().id_dataset); })
      .def_property_readonly("fingerprint",
                             [](const Dataset& dataset) {
                               py::gil_scoped_release release;
                               return with_os_errors([&] { return dataset.fingerprint(); });
                             })
      .def_property_readonly("dim", [](const Dataset& file) { return file.info().dim; })
      .def_property_readonly("classes", [](const Dataset& file) { return file.info().classes; })
      .def_property_readonly("splits", [](const Dataset& file) { return splits_of(file.info()); })
      .def_property_readonly(
          "head",
          [](const Dataset& file) -> std::optional<std::pair<py::array, py::array>> {
            const Head* head = file.head();
            if (head == nullptr) return std::nullopt;
            FloatArray bias(head->bias.size(), head->bias.data());
            return std::pair<py::array, py::array>(copy_of(head->weight), std::move(bias));
          })
      .def(
          "source",
          [](const py::object& self, const py::str& name,
             const std::optional<std::pair<Index, Index>>& rows, std::optional<Index> classes) {
            const std::string split = bytes_of(name);
            const auto& file = py::cast<const Dataset&>(self);
            std::shared_ptr<BatchSource> source = with_os_errors([&] {
              py::gil_scoped_release release;
              return rows ? file.source(split, rows->first, rows->second, classes)
                          : file.source(split);
            });
            return Source{std::move(source), self};
          },
          py::arg("split"), py::arg("rows"), py::arg("classes") = py::none());

  py::class_<Writer>(module, "Writer")
      .def(py::init([](const std::filesystem::path& path, const std::string& model,
                       const std::string& id_dataset, const std::string& dtype, int gzip_level) {
             return with_os_errors([&] {
               return std::make_unique<Writer>(
                   path, DatasetWriter::Options{model, id_dataset, float_type(dtype), gzip_level});
             });
           }),
           py::arg("path"), py::arg("model"), py::arg("id_dataset"), py::arg("dtype"),
           py::arg("gzip_level"))
      .def(
          "write_head",
          [](Writer& self, const Arrays& arrays) {
            self.call([&](DatasetWriter& writer) { writer.write_head(*arrays.head()); });
          },
          py::arg("head"))
      .def(
          "append",
          [](Writer& self, const std::string& split, const Arrays& arrays,
             const std::string& kind) {
            self.call([&](DatasetWriter& writer) { writer.append(split, arrays.batch(), kind); });
          },
          py::arg("split"), py::arg("arrays"), py::arg("kind"))
      .def(
          "set_attribute",
          [](Writer& self, const std::string& name, const std::string& value) {
            self.call([&](DatasetWriter& writer) { writer.set_attribute(name, value); });
          },
          py::arg("name"), py::arg("value"))
      .def("close", [](Writer& self) { self.call([](DatasetWriter& writer) { writer.close(); }); });
}

}  // namespace ood::python
