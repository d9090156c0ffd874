#include <memory>

#include "bindings.h"
#include "errors.h"
#include "ood/evaluate.h"
#include "ood/partitions.h"
#include "ood/reduce.h"

namespace ood::python {

namespace {

py::bytes to_python(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const std::byte> view(const py::bytes& bytes) {
  const std::string_view text = bytes;
  return std::as_bytes(std::span(text.data(), text.size()));
}

py::dict to_python(const SourceInfo& info) {
  py::dict dict;
  dict["name"] = text(info.name);
  dict["rows"] = info.rows;
  dict["dim"] = info.dim;
  dict["classes"] = info.classes;
  dict["copies"] = info.copies;
  py::dict layers;
  for (const auto& [name, width] : info.layers) layers[text(name)] = width;
  dict["layers"] = layers;
  dict["has"] = info.has.names();
  return dict;
}

SourceInfo source_info(const py::dict& dict) {
  SourceInfo info{.name = bytes_of(dict["name"]),
                  .rows = py::cast<Index>(dict["rows"]),
                  .dim = py::cast<Index>(dict["dim"]),
                  .classes = py::cast<Index>(dict["classes"]),
                  .copies = py::cast<Index>(dict["copies"]),
                  .layers = {},
                  .has = Inputs::named(py::cast<std::vector<std::string>>(dict["has"]))};
  for (const auto& [name, width] : py::cast<py::dict>(dict["layers"]))
    info.layers[bytes_of(py::str(name))] = py::cast<Index>(width);
  return info;
}

/// `reduce` is called by fits, and gets the Reduction, which is there until it returns.
Source partitioned(const py::dict& info, const Arrays* head, py::function reduce) {
  auto kept =
      head != nullptr && head->head() != nullptr ? std::make_shared<Head>(*head->head()) : nullptr;
  auto call = [reduce](const Reduction& reduction) {
    const py::gil_scoped_acquire hold;
    const py::bytes total = reduce(py::cast(&reduction, py::return_value_policy::reference));
    const auto bytes = view(total);
    return Bytes(bytes.begin(), bytes.end());
  };
  return {std::make_shared<PartitionedSource>(source_info(info), std::move(kept), std::move(call)),
          py::none()};
}

py::bytes accumulate(const Source& all, const Reduction& reduction, Index first_row,
                     const std::vector<const Source*>& pieces) {
  auto* source = dynamic_cast<PartitionedSource*>(all.source.get());
  if (source == nullptr) throw_invalid("accumulate: the source is not one of partitions");
  std::vector<std::shared_ptr<BatchSource>> sources;
  for (const Source* piece : pieces) sources.push_back(piece->source);
  Bytes bytes;
  {
    const py::gil_scoped_release release;
    with_os_errors([&] { bytes = source->accumulate(reduction, first_row, std::move(sources)); });
  }
  return to_python(bytes);
}

py::bytes merge(const Reduction& reduction, const std::vector<py::bytes>& parts) {
  if (parts.empty()) throw_invalid("merge: no summary, expected 1 or more");
  std::vector<std::span<const std::byte>> views;
  for (const py::bytes& part : parts) views.push_back(view(part));
  Bytes bytes;
  {
    const py::gil_scoped_release release;
    bytes = reduction.merge(views);
  }
  return to_python(bytes);
}

/// Of consecutive sources: an array of scores for each detector, or what keeps it from having some; the rows that are
/// classified right, or None; the seconds of each detector.
py::tuple score_sources(const std::vector<const Model*>& models,
                        const std::vector<const Source*>& pieces, bool count_right, int threads) {
  std::vector<const Detector*> detectors;
  for (const Model* model : models) detectors.push_back(model->detector.get());
  std::vector<SourceScores> found;
  {
    const py::gil_scoped_release release;
    with_os_errors([&] {
      for (const Source* piece : pieces)
        found.push_back(score_source(*piece->source, detectors, count_right, {.threads = threads}));
    });
  }
  py::list scores, seconds;
  for (std::size_t d = 0; d < detectors.size(); ++d) {
    std::vector<float> all;
    std::string failure;
    double sum = 0;
    for (SourceScores& part : found) {
      auto& [of_part, why, time] = part.detectors[d];
      all.insert(all.end(), of_part.begin(), of_part.end());
      if (failure.empty()) failure = why;
      sum += time;
    }
    if (failure.empty())
      scores.append(FloatArray(static_cast<py::ssize_t>(all.size()), all.data()));
    else
      scores.append(shown(failure));
    seconds.append(sum);
  }
  std::optional<Index> right = 0;
  for (const SourceScores& part : found)
    right = right && part.right ? std::optional(*right + *part.right) : std::nullopt;
  return py::make_tuple(scores, right, seconds);
}

DatasetInfo dataset_info(
    const std::string& path,
    const std::vector<std::tuple<std::string, std::string, py::dict>>& splits) {
  DatasetInfo info;
  info.path = path;
  for (const auto& [name, kind, source] : splits)
    info.splits.push_back({.name = name, .kind = kind, .source = source_info(source)});
  return info;
}

}  // namespace

void bind_partitions(py::module_& module) {
  py::class_<Reduction, std::unique_ptr<Reduction, py::nodelete>>(module, "Reduction")
      .def("merge", &merge, py::arg("parts"));
  static_cast<py::class_<Source>>(module.attr("Source"))
      .def_static("partitioned", &partitioned, py::arg("info"), py::arg("head"), py::arg("reduce"))
      .def("accumulate", &accumulate, py::arg("reduction"), py::arg("first_row"), py::arg("pieces"))
      .def_property_readonly("info",
                             [](const Source& rows) { return to_python(rows.source->info()); });
  static_cast<py::class_<Dataset>>(module.attr("Dataset"))
      .def(
          "info",
          [](const Dataset& file, const py::str& split) {
            return to_python(file.at(bytes_of(split)).source);
          },
          py::arg("split"),
          "Of the source of a split, without the classes that labels alone tell.");
  module.attr("BLOCK_ROWS") = kBlockRows;
  module.attr("MERGE_WAYS") = kMergeWays;

  module.def("score_sources", &score_sources, py::arg("models"), py::arg("pieces"),
             py::arg("count_right"), py::arg("threads"));
  // A ValueError as before; what is not defined for its data can be told from what is wrong with them
  py::register_local_exception<std::domain_error>(module, "DomainError", PyExc_ValueError);

  py::class_<DatasetInfo>(module, "DatasetInfo")
      .def(py::init(&dataset_info), py::arg("path"), py::arg("splits"))
      .def(
          "missing_inputs",
          [](const DatasetInfo& info, const Model& model) {
            return missing_inputs(info, *model.detector);
          },
          py::arg("model"))
      .def(
          "missing_fit_inputs",
          [](const DatasetInfo& info, const Model& model) {
            return missing_fit_inputs(info, *model.detector);
          },
          py::arg("model"))
      .def(
          "fit_split",
          [](const DatasetInfo& info, const Model& model) {
            return fit_split(info, *model.detector);
          },
          py::arg("model"))
      .def(
          "plan_fit",
          [](const DatasetInfo& info, const Model& model) {
            const ReportTiming plan = plan_fit(info, *model.detector);
            return py::make_tuple(plan.fitted_on, plan.fell_back);
          },
          py::arg("model"));
}

}  // namespace ood::python
