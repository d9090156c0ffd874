#include "bindings.h"
#include "ood/intervals.h"
#include "ood/metrics.h"
#include "ood/threshold.h"

namespace ood::python {

namespace {

using ScoreArray = py::array_t<double, py::array::c_style>;

Scores view(const ScoreArray& scores) {
  return {scores.data(), static_cast<std::size_t>(scores.size())};
}

py::tuple to_python(const Interval& interval) {
  return py::make_tuple(interval.value, interval.low, interval.high);
}

/// A function of ID and OOD scores, for Python.
template <class... Extra>
auto of_scores(double (*metric)(Scores, Scores, Extra...)) {
  return [metric](const ScoreArray& id, const ScoreArray& ood, Extra... extra) {
    const Scores id_scores = view(id), ood_scores = view(ood);
    py::gil_scoped_release release;
    return metric(id_scores, ood_scores, extra...);
  };
}

py::dict all_metrics(const ScoreArray& id, const ScoreArray& ood) {
  const Scores id_scores = view(id), ood_scores = view(ood);
  const Metrics metrics = [&] {
    py::gil_scoped_release release;
    return compute_metrics(id_scores, ood_scores);
  }();
  py::dict dict;
  dict["auroc"] = metrics.auroc;
  dict["fpr95"] = metrics.fpr95;
  dict["fpr95_ood"] = metrics.fpr95_ood;
  dict["aupr_in"] = metrics.aupr_in;
  dict["aupr_out"] = metrics.aupr_out;
  dict["aupr_in_trapezoid"] = metrics.aupr_in_trapezoid;
  dict["aupr_out_trapezoid"] = metrics.aupr_out_trapezoid;
  return dict;
}

py::dict bootstrap(const ScoreArray& id, const ScoreArray& ood, Index resamples, std::uint64_t seed,
                   double level, double tpr, int threads) {
  const Scores id_scores = view(id), ood_scores = view(ood);
  const MetricIntervals intervals = [&] {
    py::gil_scoped_release release;
    return bootstrap_intervals(id_scores, ood_scores,
                               {resamples, seed, level, tpr, {.threads = threads}});
  }();
  py::dict dict;
  dict["auroc"] = to_python(intervals.auroc);
  dict["fpr"] = to_python(intervals.fpr);
  dict["fpr_ood"] = to_python(intervals.fpr_ood);
  dict["aupr_in"] = to_python(intervals.aupr_in);
  dict["aupr_out"] = to_python(intervals.aupr_out);
  dict["aupr_in_trapezoid"] = to_python(intervals.aupr_in_trapezoid);
  dict["aupr_out_trapezoid"] = to_python(intervals.aupr_out_trapezoid);
  return dict;
}

py::tuple delong(const ScoreArray& id, const ScoreArray& ood, double level) {
  const Scores id_scores = view(id), ood_scores = view(ood);
  return to_python([&] {
    py::gil_scoped_release release;
    return auroc_interval(id_scores, ood_scores, level);
  }());
}

py::tuple compare(const ScoreArray& id_a, const ScoreArray& ood_a, const ScoreArray& id_b,
                  const ScoreArray& ood_b, double level) {
  const Scores in_a = view(id_a), out_a = view(ood_a), in_b = view(id_b), out_b = view(ood_b);
  const Comparison found = [&] {
    py::gil_scoped_release release;
    return compare_auroc(in_a, out_a, in_b, out_b, level);
  }();
  return py::make_tuple(found.auroc_a, found.auroc_b, to_python(found.difference), found.z,
                        found.p_value);
}

}  // namespace

void bind_metrics(py::module_& module) {
  const auto id = py::arg("id").noconvert(), ood = py::arg("ood").noconvert();
  module.def("auroc", of_scores(&auroc), id, ood);
  module.def("fpr_at_tpr", of_scores(&fpr_at_tpr), id, ood, py::arg("tpr"));
  module.def("fpr_at_tpr_ood", of_scores(&fpr_at_tpr_ood), id, ood, py::arg("tpr"));
  module.def("aupr_in", of_scores(&aupr_in), id, ood);
  module.def("aupr_out", of_scores(&aupr_out), id, ood);
  module.def("aupr_in_trapezoid", of_scores(&aupr_in_trapezoid), id, ood);
  module.def("aupr_out_trapezoid", of_scores(&aupr_out_trapezoid), id, ood);
  module.def("compute_metrics", &all_metrics, id, ood);
  module.def("auroc_interval", &delong, id, ood, py::arg("level"));
  module.def("bootstrap_intervals", &bootstrap, id, ood, py::arg("resamples"), py::arg("seed"),
             py::arg("level"), py::arg("tpr"), py::arg("threads"));
  module.def("compare_auroc", &compare, py::arg("id_a").noconvert(), py::arg("ood_a").noconvert(),
             py::arg("id_b").noconvert(), py::arg("ood_b").noconvert(), py::arg("level"));
  module.def(
      "threshold_at_tpr",
      [](const ScoreArray& scores, double tpr) { return threshold_at_tpr(view(scores), tpr); }, id,
      py::arg("tpr"));
  module.def(
      "adjusted_p_values",
      [](const ScoreArray& p_values) {
        const auto adjusted = adjusted_p_values(view(p_values));
        return py::array_t<double>(static_cast<py::ssize_t>(adjusted.size()), adjusted.data());
      },
      py::arg("p_values").noconvert());
}

}  // namespace ood::python
