#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/detector_arguments.h"
#include "cli/progress_line.h"
#include "errors.h"
#include "ood/devices.h"
#include "ood/evaluate.h"
#include "ood/fit_model.h"
#include "ood/report.h"
#include "ood/version.h"

namespace ood::cli {

namespace {

struct FitArguments {
  std::string file;
  DetectorArguments detector;
  std::string format = "table";
  std::string out;
  FitModelOptions model;
};

OptionMap options_of(const Detector& detector) {
  OptionMap options;
  for (const OptionInfo& option : detector.options()) options[option.name] = option.value;
  return options;
}

std::string describe(const RowsUsed& rows) {
  return rows.split.empty() ? "no rows"
                            : fmt::format("{} rows of /{}{}", rows.rows, rows.split,
                                          rows.part ? ", a part of it" : "");
}

std::string describe(const Model& model, const std::string& path) {
  return fmt::format(
      "\nModel: {}\nfitted on {}\ncalibrated on {}\nrejects rows with {} (alpha {})\n", path,
      describe(model.fitted_on), describe(model.calibrated_on),
      model.calibration.by_class()
          ? "a p-value of alpha or less among those of their predicted class"
          : fmt::format("a score below {}", model.threshold()),
      model.alpha);
}

nlohmann::ordered_json to_json(const RowsUsed& rows) {
  return {{"file", rows.file},   {"fingerprint", rows.fingerprint},
          {"split", rows.split}, {"rows", rows.rows},
          {"dim", rows.dim},     {"classes", rows.classes},
          {"part", rows.part}};
}

std::string with_model(const std::string& report, const Model& model, const std::string& path) {
  auto root = nlohmann::ordered_json::parse(report);
  root["model_file"] = {{"path", path},
                        {"fitted_on", to_json(model.fitted_on)},
                        {"calibrated_on", to_json(model.calibrated_on)},
                        {"alpha", model.alpha},
                        {"by_class", model.calibration.by_class()}};
  // null: by class each class has its own, and -infinity is no number of JSON
  root["model_file"]["threshold"] = nullptr;
  if (!model.calibration.by_class() && std::isfinite(model.threshold()))
    root["model_file"]["threshold"] = model.threshold();
  return root.dump(2) + "\n";
}

void run(const FitArguments& arguments) {
  if (arguments.detector.all()) throw_invalid("--detector has all, expected one detector");
  auto detectors = make_detectors(arguments.detector);
  Detector& detector = *detectors.front();
  const Dataset dataset(arguments.file);
  require_output(arguments.out, arguments.file);
  if (auto missing = missing_fit_inputs(dataset.info(), detector); !missing.empty())
    throw_invalid("{}: {}", detector.name(), missing);
  require_device(arguments.detector.exec.device);
  std::optional<Model> model;
  Report report{.file = arguments.file,
                .model = dataset.info().model,
                .id_dataset = dataset.info().id_dataset,
                .version = OOD_VERSION,
                .id_accuracy = {},
                .rows = {},
                .timings = {},
                .left_out = {}};
  {
    ProgressLine line;
    report.searches =
        choose_options(dataset, detectors, arguments.detector,
                       [&](std::string_view step, double done) { line.show(step, done); });
    line.show("fit", 0);
    if (arguments.out.empty()) {
      report.timings.push_back(fit(detector, dataset, arguments.detector.exec));
    } else {
      FitModelOptions options = arguments.model;
      options.exec = arguments.detector.exec;
      options.progress = [&](std::string_view step, double done) { line.show(step, done); };
      report.timings.push_back(plan_fit(dataset.info(), detector));
      const auto start = std::chrono::steady_clock::now();
      model = fit_model(std::move(detectors.front()), dataset, options);
      report.timings.back().fit_seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      save_model(*model, arguments.out);
    }
  }
  report.fits.push_back(
      {std::string(detector.name()), options_of(detector), detector.diagnostics()});
  print_warnings(report);
  if (model) {
    auto warnings = calibration_warnings(*model);
    for (const SearchResult& search : report.searches)
      if (search.id.source.ends_with("/" + model->calibrated_on.split))
        warnings.push_back(fmt::format(
            "options were chosen on rows of {}, on which it is calibrated too: more than alpha of "
            "new rows may be rejected",
            search.id.source));
    for (const std::string& warning : warnings)
      fmt::print(stderr, "warning: {}: {}\n", detector.name(), warning);
  }
  if (arguments.format == "table")
    print(to_table(report, true) + (model ? describe(*model, arguments.out) : ""));
  else
    print(model ? with_model(to_json(report), *model, arguments.out) : to_json(report));
}

}  // namespace

void add_fit(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("fit", "Fit a detector on a feature file and show what the fit found out");
  auto arguments = std::make_shared<FitArguments>();
  command->add_option("file", arguments->file, "Feature file (HDF5)")->required();
  add_detector_arguments(*command, arguments->detector, true);
  command->add_option("--format,-f", arguments->format, "Form of the output")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  auto* out = command->add_option("--out,-o", arguments->out,
                                  "Write the fitted detector, calibrated, to this model file");
  FitModelOptions& model = arguments->model;
  auto* alpha =
      command
          ->add_option("--alpha", model.alpha, "Share of ID rows that may be rejected, for --out")
          ->capture_default_str()
          ->needs(out);
  command
      ->add_option_function<double>(
          "--tpr",
          [&model](double tpr) {
            if (!(tpr > 0 && tpr <= 1)) throw_invalid("--tpr has {}, expected above 0 to 1", tpr);
            // 1 - 0.9 is not 0.1: the decimal that is meant
            model.alpha = std::round((1 - tpr) * 1e15) / 1e15;
          },
          "Share of ID rows that is to be accepted: 1 - alpha")
      ->needs(out)
      ->excludes(alpha);
  command
      ->add_flag("--by-class", model.by_class,
                 "Calibrate within the rows that the network assigns to each class")
      ->needs(out);
  command
      ->add_option("--held-out", model.held_out,
                   "Share of the rows that is kept from the fit, where no others are there to "
                   "calibrate on")
      ->capture_default_str()
      ->needs(out);
  command->add_option("--seed", model.seed, "Of the choice of these rows")
      ->capture_default_str()
      ->needs(out);
  command->callback([arguments, &action] {
    action = [arguments] {
      run(*arguments);
      return kDone;
    };
  });
}

}  // namespace ood::cli
