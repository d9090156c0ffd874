#include <pybind11/functional.h>

#include <numeric>
#include <span>
#include <tuple>

#include "bindings.h"
#include "cli/commands.h"
#include "errors.h"
#include "ood/evaluate.h"
#include "ood/report.h"
#include "ood/report_builder.h"
#include "ood/score_bins.h"
#include "ood/version.h"

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

template <class Number>
using Array = py::array_t<Number, py::array::c_style>;
template <class Number>
using Sets =
    std::vector<std::tuple<py::str, py::str, Array<Number>>>;  // name, kind, scores or counts

template <class Number>
std::span<const Number> view(const Array<Number>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

template <class Number>
Array<Number> array_of(const std::vector<Number>& values) {
  return Array<Number>(static_cast<py::ssize_t>(values.size()), values.data());
}

/// One of Sets, to be read without the GIL.
template <class Number>
struct SetView {
  std::string name;
  std::string kind;
  std::span<const Number> values;
};

template <class Number>
std::vector<SetView<Number>> views(const Sets<Number>& sets) {
  std::vector<SetView<Number>> all;
  for (const auto& [name, kind, values] : sets)
    all.push_back({bytes_of(name), bytes_of(kind), view(values)});
  return all;
}

std::vector<double> doubles(std::span<const float> scores) {
  return {scores.begin(), scores.end()};
}

/// ReportBuilder of detectors that were fitted, and whose rows were scored, by the caller.
class CallersReport {
 public:
  CallersReport(const py::str& file, const py::str& model, const py::str& id_dataset,
                std::optional<double> id_accuracy, bool curves)
      : builder_({.file = bytes_of(file),
                  .model = bytes_of(model),
                  .id_dataset = bytes_of(id_dataset),
                  .version = OOD_VERSION,
                  .id_accuracy = id_accuracy,
                  .rows = {},
                  .timings = {},
                  .left_out = {}}),
        parts_{.curves = curves} {}

  void leave_out(const std::string& name, const py::str& reason) {
    builder_.leave_out(name, bytes_of(reason));
  }

  bool add(const Model& model, const std::string& fitted_on, bool fell_back, double fit_seconds,
           double score_seconds, const Array<float>& id_scores, const Sets<float>& sets) {
    DetectorResults results = start(model, fitted_on, fell_back, fit_seconds, score_seconds);
    const auto id = view(id_scores);
    const auto all = views(sets);
    py::gil_scoped_release release;
    results.timing.scored_rows = std::ssize(id);
    for (const auto& set : all) results.timing.scored_rows += std::ssize(set.values);
    results.set_id(doubles(id));
    for (const auto& set : all)
      if (!results.failed()) results.add_set(set.name, set.kind, doubles(set.values));
    return builder_.add(std::move(results));
  }

  bool add_counts(const Model& model, const std::string& fitted_on, bool fell_back,
                  double fit_seconds, double score_seconds, const Array<float>& edges,
                  const Array<std::int64_t>& id_counts, const Sets<std::int64_t>& sets) {
    if (id_counts.size() != 2 * edges.size() + 1)
      throw_invalid("{}: id_counts has {} bins, expected {} of {} edges", model.detector->name(),
                    id_counts.size(), 2 * edges.size() + 1, edges.size());
    DetectorResults results = start(model, fitted_on, fell_back, fit_seconds, score_seconds);
    const auto id = view(id_counts);
    const auto all = views(sets);
    py::gil_scoped_release release;
    const auto rows = [](BinCounts counts) {
      return std::accumulate(counts.begin(), counts.end(), Index{0});
    };
    results.timing.scored_rows = rows(id);
    for (const auto& set : all) results.timing.scored_rows += rows(set.values);
    results.set_id_counts({id.begin(), id.end()});
    for (const auto& set : all) results.add_set_counts(set.name, set.kind, set.values);
    return builder_.add(std::move(results));
  }

  Report finish() {
    py::gil_scoped_release release;
    return builder_.finish();
  }

 private:
  DetectorResults start(const Model& model, const std::string& fitted_on, bool fell_back,
                        double fit_seconds, double score_seconds) const {
    return {{.detector = std::string(model.detector->name()),
             .options = ood::option_map(*model.detector),
             .fitted_on = fitted_on,
             .fell_back = fell_back,
             .fit_seconds = fit_seconds,
             .score_seconds = score_seconds},
            model.detector->diagnostics(),
            parts_};
  }

  ReportBuilder builder_;
  ReportParts parts_;
};

void bind_score_bins(py::module_& module) {
  const auto scores = py::arg("scores").noconvert(), edges = py::arg("edges").noconvert();
  const auto samples = py::arg("samples").noconvert();
  module.def(
      "score_sample",
      [](const Array<float>& given, Index most) {
        const auto values = view(given);
        return array_of([&] {
          py::gil_scoped_release release;
          return score_sample(values, most);
        }());
      },
      scores, py::arg("most"));
  module.def(
      "bin_edges",
      [](const Array<float>& given, Index most) {
        const auto values = view(given);
        return array_of([&] {
          py::gil_scoped_release release;
          return bin_edges(values, most);
        }());
      },
      samples, py::arg("most"));
  module.def(
      "bin_counts",
      [](const Array<float>& given, const Array<float>& edges_given) {
        const auto values = view(given), ascending = view(edges_given);
        return array_of([&] {
          py::gil_scoped_release release;
          return bin_counts(values, ascending);
        }());
      },
      scores, edges);
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
  py::class_<CallersReport>(module, "ReportBuilder")
      .def(py::init<const py::str&, const py::str&, const py::str&, std::optional<double>, bool>(),
           py::arg("file"), py::arg("model"), py::arg("id_dataset"), py::arg("id_accuracy"),
           py::arg("curves"))
      .def("leave_out", &CallersReport::leave_out, py::arg("name"), py::arg("reason"))
      .def("add", &CallersReport::add, py::arg("model"), py::arg("fitted_on"), py::arg("fell_back"),
           py::arg("fit_seconds"), py::arg("score_seconds"), py::arg("id_scores").noconvert(),
           py::arg("sets").noconvert())
      .def("add_counts", &CallersReport::add_counts, py::arg("model"), py::arg("fitted_on"),
           py::arg("fell_back"), py::arg("fit_seconds"), py::arg("score_seconds"),
           py::arg("edges").noconvert(), py::arg("id_counts").noconvert(),
           py::arg("sets").noconvert())
      .def("finish", &CallersReport::finish);
  bind_score_bins(module);
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
