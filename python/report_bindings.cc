#include <pybind11/functional.h>

#include "bindings.h"
#include "cli/commands.h"
#include "errors.h"
#include "ood/evaluate.h"
#include "ood/report.h"

namespace ood::python {

namespace {

using Progress = std::function<void(const std::string& step, double done)>;

/// The report, and the detectors as they were fitted.
std::pair<Report, std::vector<Model>> evaluate_models(const Dataset& dataset,
                                                      const std::vector<const Model*>& models,
                                                      int threads, const std::string& device,
                                                      const std::vector<std::string>& without,
                                                      bool curves, const Progress& progress) {
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const Model* model : models) detectors.push_back(model->detector->clone());
  EvaluateOptions options{.exec = exec_of(threads, device), .without = without, .curves = curves};
  options.progress = [&](std::string_view step, double done) {
    py::gil_scoped_acquire hold;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (progress) progress(std::string(step), done);
  };
  std::pair<Report, std::vector<Model>> result;
  {
    py::gil_scoped_release release;
    result.first = with_os_errors([&] { return evaluate(dataset, detectors, options); });
  }
  for (auto& detector : detectors) result.second.push_back({.detector = std::move(detector)});
  return result;
}

}  // namespace

void bind_reports(py::module_& module) {
  py::class_<Report>(module, "Report")
      .def(
          "table",
          [](const Report& report, bool verbose) { return shown(to_table(report, verbose)); },
          py::arg("verbose"))
      .def(
          "markdown",
          [](const Report& report, bool verbose) { return shown(to_markdown(report, verbose)); },
          py::arg("verbose"))
      .def("csv", [](const Report& report) { return shown(to_csv(report)); })
      .def("json", &to_json)
      .def("html", &to_html);
  module.def("evaluate", &evaluate_models, py::arg("dataset"), py::arg("models"),
             py::arg("threads"), py::arg("device"), py::arg("without"), py::arg("curves"),
             py::arg("progress"));
  module.def(
      "write_file",
      [](const std::string& path, const std::string& text) {
        with_os_errors([&] { cli::write_file(path, text); });
      },
      py::arg("path"), py::arg("text"));
  module.def(
      "missing_inputs",
      [](const Dataset& dataset, const Model& model, const std::string& device) {
        return missing_inputs(dataset.info(), *model.detector, Device::parse(device));
      },
      py::arg("dataset"), py::arg("model"), py::arg("device"));
}

}  // namespace ood::python
