#include "cli/evaluation.h"

#include "cli/commands.h"
#include "cli/progress_line.h"
#include "errors.h"
#include "ood/devices.h"
#include "ood/evaluate.h"

namespace ood::cli {

Report evaluate_file(const std::string& file, const DetectorArguments& arguments,
                     const std::string& out, EvaluateOptions options) {
  require_output(out, file);
  require_device(arguments.exec.device);
  const bool all = arguments.all();
  const auto detectors = make_detectors(arguments);
  const Dataset dataset(file);
  if (!all)  // before the first fit, which may take long
    for (const auto& detector : detectors)
      if (auto missing = missing_inputs(dataset.info(), *detector, arguments.exec.device);
          !missing.empty())
        throw_invalid("{}: {}", detector->name(), missing);
  Report report = [&] {
    ProgressLine line;
    const auto progress = [&](std::string_view step, double done) { line.show(step, done); };
    auto searches = choose_options(dataset, detectors, arguments, progress);
    options.exec = arguments.exec;
    options.without = used_for_choosing(dataset, arguments);
    options.progress = progress;
    Report evaluated = evaluate(dataset, detectors, options);
    evaluated.searches = std::move(searches);
    return evaluated;
  }();
  for (const LeftOut& left : report.left_out) {
    const bool named = left.reason.starts_with(left.detector);
    const std::string line =
        named ? left.reason : fmt::format("{}: {}", left.detector, left.reason);
    if (!all) throw_invalid("{}", line);
    fmt::print(stderr, "left out: {}\n", line);
  }
  print_warnings(report);
  if (report.timings.empty()) throw_invalid("{}: no detector can be run", file);
  return report;
}

}  // namespace ood::cli
