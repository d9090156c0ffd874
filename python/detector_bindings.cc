#include <pybind11/functional.h>

#include "bindings.h"
#include "errors.h"
#include "ood/evaluate.h"
#include "ood/registry.h"
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
  return {make_detector(name, option_map(options))};
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
}

void fit_dataset(Model& model, const Dataset& dataset, int threads) {
  py::gil_scoped_release release;
  with_os_errors([&] {
    if (const auto missing = missing_fit_inputs(dataset.info(), *model.detector); !missing.empty())
      throw_invalid("{}.fit: {}: {}", model.detector->name(), dataset.info().path.string(),
                    missing);
    fit(*model.detector, dataset, {.threads = threads});
  });
}

/// Streamed, with logits from features and head where they are not stored.
FloatArray score_source(const Model& model, const Source& rows, int threads) {
  FloatArray out(rows.source->info().rows);
  const std::span<float> scores(out.mutable_data(), static_cast<std::size_t>(out.size()));
  py::gil_scoped_release release;
  with_os_errors([&] {
    const Detector& detector = *model.detector;
    with_context(fmt::format("{}.score", detector.name()), [&] {
      stream(*rows.source, detector.needs().score, {threads}, [&](const Batch& batch) {
        detector.score(batch,
                       scores.subspan(static_cast<std::size_t>(batch.first_row),
                                      static_cast<std::size_t>(batch.rows())),
                       {threads});
      });
    });
  });
  return out;
}

/// Rows in memory: no check of their values, as in C++; a row with NaN scores NaN.
FloatArray score_arrays(const Model& model, const Arrays& arrays, int threads) {
  FloatArray out(arrays.batch().rows());
  const std::span<float> scores(out.mutable_data(), static_cast<std::size_t>(out.size()));
  py::gil_scoped_release release;
  model.detector->score(arrays.batch(), scores, {.threads = threads});
  return out;
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
      .def("fit_dataset", &fit_dataset, py::arg("dataset"), py::arg("threads"))
      .def("score", &score_arrays, py::arg("arrays"), py::arg("threads"))
      .def("score_source", &score_source, py::arg("source"), py::arg("threads"))
      .def("to_bytes",
           [](const Model& model) {
             const auto bytes = to_bytes(*model.detector);
             return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
           })
      .def_static(
          "from_bytes",
          [](const py::bytes& bytes) {
            const std::string_view view = bytes;
            return Model{detector_from_bytes(std::as_bytes(std::span(view.data(), view.size())))};
          },
          py::arg("bytes"));
  module.def("catalog", &catalog);
}

}  // namespace ood::python
