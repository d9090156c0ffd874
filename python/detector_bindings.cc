#include <pybind11/functional.h>

#include "bindings.h"
#include "errors.h"
#include "ood/cuda.h"
#include "ood/evaluate.h"
#include "ood/fit_model.h"
#include "ood/registry.h"
#include "ood/serialize.h"
#include "ood/stream.h"

namespace ood::python {

namespace {

OptionValue option_value(const std::string& name, py::handle given) {
  py::object value = py::reinterpret_borrow<py::object>(given);
  if (py::hasattr(value, "dtype") && py::hasattr(value, "item") &&
      py::cast<int>(value.attr("ndim")) == 0)
    value = value.attr("item")();  // a NumPy scalar as Python's
  if (py::isinstance<py::bool_>(value)) return py::cast<bool>(value);
  if (py::isinstance<py::int_>(value)) {
    try {
      return py::cast<Index>(value);
    } catch (const py::cast_error&) {
      throw_invalid("option {} has {}, expected a number between -2^63 and 2^63", name,
                    std::string(py::str(value)));
    }
  }
  if (py::isinstance<py::float_>(value)) return py::cast<double>(value);
  if (py::isinstance<py::str>(value)) return py::cast<std::string>(value);
  if (py::isinstance<py::sequence>(value)) {
    try {
      return py::cast<std::vector<double>>(value);
    } catch (const py::cast_error&) {  // not of numbers
    }
  }
  throw py::type_error(
      fmt::format("option {} has {}, expected a number, text, or a list of numbers", name,
                  std::string(py::repr(value))));
}

Model make_model(const std::string& name, const py::dict& options) {
  return {.detector = make_detector(name, option_map(options))};
}

py::dict dict_of(const RowsUsed& rows) {
  py::dict dict;
  dict["file"] = text(rows.file);
  dict["fingerprint"] = rows.fingerprint;
  dict["split"] = text(rows.split);
  dict["rows"] = rows.rows;
  dict["dim"] = rows.dim;
  dict["classes"] = rows.classes;
  dict["part"] = rows.part;
  return dict;
}

/// After a fit: scores that were calibrated are not these any more.
void forget_calibration(Model& model) {
  model.calibration = {};
  model.calibrated_on = model.fitted_on = {};
}

/// On arrays or splits. `ood_val` is name -> rows.
void fit_rows(Model& model, const Source* train, const Source* id_val,
              const std::map<std::string, const Source*>& ood_val, int threads) {
  FitData data;
  if (train != nullptr) data.train = train->source.get();
  if (id_val != nullptr) data.id_val = id_val->source.get();
  for (const auto& [name, rows] : ood_val) data.ood_val.emplace_back(name, rows->source.get());
  py::gil_scoped_release release;
  with_os_errors([&] { model.detector->fit(data, {.threads = threads}); });
  forget_calibration(model);
  std::string splits;
  for (const Source* rows : {id_val, train}) {
    if (rows == nullptr) continue;
    const SourceInfo& info = rows->source->info();
    splits += (splits.empty() ? "" : ", ") + std::string(rows == train ? "train" : "id_val");
    model.fitted_on.rows += info.rows;
    model.fitted_on.dim = info.dim;
    model.fitted_on.classes = info.classes;
  }
  model.fitted_on.split = splits;
  if (splits.empty()) return;
  const Needs needs = model.detector->needs();
  BatchSource& rows = data.in_distribution(needs.split);
  if (dynamic_cast<MemorySource*>(&rows) != nullptr)  // files have one of their own
    model.fitted_on.fingerprint = rows_fingerprint(rows, needs.score);
}

/// After fit_rows() on a split of a file, which the source does not know.
void set_fitted_on(Model& model, const std::string& file, const std::string& split,
                   const std::string& hash) {
  if (model.fitted_on.split.empty()) return;  // no rows were needed
  model.fitted_on.file = file;
  model.fitted_on.split = split;
  model.fitted_on.fingerprint = hash;
}

void fit_dataset(Model& model, const Dataset& dataset, int threads) {
  py::gil_scoped_release release;
  with_os_errors([&] {
    if (const auto missing = missing_fit_inputs(dataset.info(), *model.detector); !missing.empty())
      throw_invalid("{}.fit: {}: {}", model.detector->name(), dataset.info().path.string(),
                    missing);
    fit(*model.detector, dataset, {.threads = threads});
    forget_calibration(model);
    model.fitted_on = rows_of_fit(dataset, *model.detector);
  });
}

/// file, split: where the rows come from, "" if from memory. part: there are more of them there.
void calibrate_model(Model& model, const Source& rows, const std::string& file,
                     const std::string& split, const std::string& hash, bool part, double alpha,
                     bool by_class, int threads, const std::string& device) {
  const Exec exec = exec_of(threads, device);
  if (!(alpha >= 0 && alpha < 1))
    throw_invalid("calibrate: alpha has {}, expected 0 or more, below 1", alpha);
  py::gil_scoped_release release;
  with_os_errors([&] {
    const SourceInfo& info = rows.source->info();
    model.calibration = calibrate(*model.detector, *rows.source, by_class, exec);
    const bool in_memory = dynamic_cast<MemorySource*>(rows.source.get()) != nullptr;
    model.calibrated_on = {
        .file = file,
        .fingerprint =
            in_memory ? rows_fingerprint(*rows.source, model.detector->needs().score) : hash,
        .split = split,
        .rows = info.rows,
        .dim = info.dim,
        .classes = info.classes,
        .part = part};
    model.alpha = alpha;
  });
}

using DoubleArray = py::array_t<double>;

std::span<double> values_of(DoubleArray& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

void require_calibrated(const Model& model) {
  if (!model.calibrated())
    throw_invalid("{} is not calibrated, expected calibrate before p-values and decisions",
                  model.detector->name());
}

DoubleArray p_values_of_source(const Model& model, const Source& rows, int threads,
                               const std::string& device) {
  const Exec exec = exec_of(threads, device);
  require_calibrated(model);
  DoubleArray out(rows.source->info().rows);
  const std::span<double> values = values_of(out);
  py::gil_scoped_release release;
  with_os_errors([&] {
    stream(*rows.source, model.needs(), exec, [&](const Batch& batch) {
      const auto scores = model.detector->score(batch, exec);
      model.p_values(batch, scores,
                     values.subspan(static_cast<std::size_t>(batch.first_row), scores.size()));
    });
  });
  return out;
}

DoubleArray p_values_of_arrays(const Model& model, const Arrays& arrays, int threads,
                               const std::string& device) {
  const Exec exec = exec_of(threads, device);
  require_calibrated(model);
  DoubleArray out(arrays.batch().rows());
  const std::span<double> values = values_of(out);
  py::gil_scoped_release release;
  const auto scores = model.detector->score(arrays.batch(), exec);
  model.p_values(arrays.batch(), scores, values);
  return out;
}

/// Each p-value's threshold, where the calibration is not by class.
py::dict calibration_of(const Model& model) {
  py::dict dict;
  const Scores kept = model.calibration.all().kept();
  dict["rows"] = model.calibration.rows();
  dict["alpha"] = model.alpha;
  dict["by_class"] = model.calibration.by_class();
  dict["threshold"] = model.calibration.by_class() ? py::object(py::none())
                                                   : py::object(py::cast(model.threshold()));
  dict["scores"] = DoubleArray(static_cast<py::ssize_t>(kept.size()), kept.data());
  dict["on"] = dict_of(model.calibrated_on);
  dict["warnings"] = calibration_warnings(model);
  return dict;
}

py::bytes to_bytes_object(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const std::byte> as_bytes(const py::bytes& bytes) {
  const std::string_view view = bytes;
  return std::as_bytes(std::span(view.data(), view.size()));
}

/// For pickles; files are for keeping.
py::tuple model_to_bytes(const Model& model) {
  return py::make_tuple(to_bytes_object(to_bytes(*model.detector)),
                        to_bytes_object(fields_to_bytes(model.calibration)), model.alpha,
                        dict_of(model.fitted_on), dict_of(model.calibrated_on));
}

RowsUsed rows_used(const py::dict& dict) {
  return {.file = bytes_of(dict["file"]),
          .fingerprint = py::cast<std::string>(dict["fingerprint"]),
          .split = bytes_of(dict["split"]),
          .rows = py::cast<Index>(dict["rows"]),
          .dim = py::cast<Index>(dict["dim"]),
          .classes = py::cast<Index>(dict["classes"]),
          .part = py::cast<bool>(dict["part"])};
}

Model model_from_bytes(const py::bytes& detector, const py::bytes& calibration, double alpha,
                       const py::dict& fitted_on, const py::dict& calibrated_on) {
  Model model{.detector = detector_from_bytes(as_bytes(detector)),
              .fitted_on = rows_used(fitted_on),
              .calibration = fields_from_bytes<Calibration>(as_bytes(calibration)),
              .calibrated_on = rows_used(calibrated_on),
              .alpha = alpha};
  model.calibration.finish_loading();
  return model;
}

/// Streamed, with logits from features and head where they are not stored.
FloatArray score_source(const Model& model, const Source& rows, int threads,
                        const std::string& device) {
  const Exec exec = exec_of(threads, device);
  FloatArray out(rows.source->info().rows);
  const std::span<float> scores(out.mutable_data(), static_cast<std::size_t>(out.size()));
  py::gil_scoped_release release;
  with_os_errors([&] {
    const Detector& detector = *model.detector;
    with_context(fmt::format("{}.score", detector.name()), [&] {
      stream(*rows.source, detector.needs().score, exec, [&](const Batch& batch) {
        detector.score(batch,
                       scores.subspan(static_cast<std::size_t>(batch.first_row),
                                      static_cast<std::size_t>(batch.rows())),
                       exec);
      });
    });
  });
  return out;
}

/// Rows in memory: no check of their values, as in C++; a row with NaN scores NaN.
FloatArray score_arrays(const Model& model, const Arrays& arrays, int threads,
                        const std::string& device) {
  const Exec exec = exec_of(threads, device);
  FloatArray out(arrays.batch().rows());
  const std::span<float> scores(out.mutable_data(), static_cast<std::size_t>(out.size()));
  py::gil_scoped_release release;
  model.detector->score(arrays.batch(), scores, exec);
  return out;
}

/// Rows and `out`, an address, in the memory of the device, whose `stream` is told what to do with them.
void score_in_place(const Model& model, const Arrays& arrays, std::uintptr_t out,
                    const std::string& device, std::uintptr_t stream) {
  py::gil_scoped_release release;
  cuda::score(*model.detector, arrays.batch(), reinterpret_cast<float*>(out), Device::parse(device),
              reinterpret_cast<void*>(stream));
}

py::dict needs_of(const Needs& needs) {
  py::dict dict;
  dict["fit"] = needs.fit.names();
  dict["split"] = std::string(kFitSplits[static_cast<std::size_t>(needs.split)]);
  dict["outliers"] = needs.outliers.names();
  dict["score"] = needs.score.names();
  return dict;
}

/// What the Python classes are generated from.
py::list catalog() {
  py::list list;
  for (const std::string& name : detector_names()) {
    const auto detector = make_detector(name);
    py::dict entry;
    entry["name"] = name;
    entry["needs"] = needs_of(detector->needs());
    py::list options;
    for (const OptionInfo& option : detector->options()) {
      py::dict dict;
      dict["name"] = option.name;
      dict["default"] = to_python(option.value);
      dict["expected"] = option.expected;
      dict["help"] = option.help;
      py::list sweep;
      for (const OptionValue& value : option.sweep) sweep.append(to_python(value));
      dict["sweep"] = sweep;
      options.append(dict);
    }
    entry["options"] = options;
    py::list presets;
    for (const Preset& preset : detector->presets())
      presets.append(py::make_tuple(preset.name, to_python(preset.options), preset.help));
    entry["presets"] = presets;
    list.append(entry);
  }
  return list;
}

}  // namespace

OptionMap option_map(const py::dict& options) {
  OptionMap map;
  for (const auto& [key, value] : options) {
    const std::string name = py::str(key);
    map[name] = option_value(name, value);
  }
  return map;
}

py::object to_python(const OptionValue& value) {
  return std::visit([](const auto& v) -> py::object { return py::cast(v); }, value);
}

py::dict to_python(const OptionMap& options) {
  py::dict dict;
  for (const auto& [name, value] : options) dict[py::str(name)] = to_python(value);
  return dict;
}

py::dict to_python(const Diagnostics& found) {
  py::dict values, per_class;
  for (const auto& [name, value] : found.values) values[py::str(name)] = to_python(value);
  for (const auto& column : found.per_class)
    per_class[py::str(column.name)] =
        py::array_t<double>(static_cast<py::ssize_t>(column.values.size()), column.values.data());
  py::dict dict;
  dict["values"] = values;
  dict["per_class"] = per_class;
  dict["warnings"] = found.warnings;
  return dict;
}

void bind_detectors(py::module_& module) {
  py::class_<Model>(module, "Model")
      .def(py::init(&make_model), py::arg("name"), py::arg("options"))
      .def_property_readonly("name",
                             [](const Model& model) { return std::string(model.detector->name()); })
      .def_property_readonly("fitted", [](const Model& model) { return model.detector->fitted(); })
      .def_property_readonly("needs",
                             [](const Model& model) { return needs_of(model.detector->needs()); })
      .def_property_readonly("options",
                             [](const Model& model) {
                               OptionMap map;
                               for (const OptionInfo& option : model.detector->options())
                                 map[option.name] = option.value;
                               return to_python(map);
                             })
      .def_property_readonly(
          "diagnostics",
          [](const Model& model) { return to_python(model.detector->diagnostics()); })
      .def("fit", &fit_rows, py::arg("train"), py::arg("id_val"), py::arg("ood_val"),
           py::arg("threads"))
      .def("set_fitted_on", &set_fitted_on, py::arg("file"), py::arg("split"),
           py::arg("fingerprint"))
      .def("fit_dataset", &fit_dataset, py::arg("dataset"), py::arg("threads"))
      .def("score", &score_arrays, py::arg("arrays"), py::arg("threads"), py::arg("device"))
      .def("score_in_place", &score_in_place, py::arg("arrays"), py::arg("out"), py::arg("device"),
           py::arg("stream"))
      .def("score_source", &score_source, py::arg("source"), py::arg("threads"), py::arg("device"))
      .def("calibrate", &calibrate_model, py::arg("rows"), py::arg("file"), py::arg("split"),
           py::arg("fingerprint"), py::arg("part"), py::arg("alpha"), py::arg("by_class"),
           py::arg("threads"), py::arg("device"))
      .def_property_readonly("calibrated", &Model::calibrated)
      .def_property_readonly("calibration", &calibration_of)
      .def_property_readonly("fitted_on",
                             [](const Model& model) { return dict_of(model.fitted_on); })
      .def("p_values", &p_values_of_arrays, py::arg("arrays"), py::arg("threads"),
           py::arg("device"))
      .def("p_values_of_source", &p_values_of_source, py::arg("source"), py::arg("threads"),
           py::arg("device"))
      .def(
          "save",
          [](const Model& model, const std::filesystem::path& path) {
            py::gil_scoped_release release;
            with_os_errors([&] { save_model(model, path); });
          },
          py::arg("path"))
      .def("to_bytes", &model_to_bytes)
      .def_static("from_bytes", &model_from_bytes, py::arg("detector"), py::arg("calibration"),
                  py::arg("alpha"), py::arg("fitted_on"), py::arg("calibrated_on"));
  module.def(
      "load_model",
      [](const std::filesystem::path& path) {
        py::gil_scoped_release release;
        return with_os_errors([&] { return load_model(path); });
      },
      py::arg("path"));
  module.def("catalog", &catalog);
}

}  // namespace ood::python
