#include "ood/fit_model.h"

#include <fmt/ranges.h>

#include <cmath>

#include "checksum.h"
#include "errors.h"
#include "ood/evaluate.h"
#include "ood/kernels.h"
#include "ood/row_sample.h"
#include "ood/stream.h"
#include "subset_source.h"

namespace ood {

namespace {

/// What a detector is calibrated on.
struct CalibrationRows {
  Split split = Split::id_val;
  bool hold_out = false;  ///< the detector is fitted on this split too
};

CalibrationRows calibration_rows(const Dataset& dataset, const Detector& detector,
                                 const Inputs& wanted) {
  const std::string used = fit_split(dataset.info(), detector);
  for (const Split split : {Split::id_val, Split::train}) {
    const std::string_view name = kFitSplits[static_cast<std::size_t>(split)];
    const SplitInfo* found = dataset.find(name);
    if (found != nullptr && !wanted.without(available(found->source)).any())
      return {split, used.find(name) != used.npos};
  }
  throw_invalid("{}: has neither /id_val nor /train with {}, expected rows to calibrate {} on",
                dataset.info().path.string(), fmt::join(wanted.names(), ", "), detector.name());
}

/// The rows of a source in two parts.
struct Parts {
  std::vector<char> held_out, rest;
};

Parts cut(const BatchSource& source, double share, Index seed) {
  const Index rows = source.info().rows;
  if (rows < 2)
    throw std::domain_error(
        fmt::format("{} has {} rows, expected 2 or more: some are held out to calibrate",
                    source.info().name, rows));
  const RowSample sample(rows, share, seed);
  Parts parts;
  for (Index row = 0; row < rows; ++row) {
    const bool held = sample.contains(row);
    parts.held_out.push_back(held ? 1 : 0);
    parts.rest.push_back(held ? 0 : 1);
  }
  return parts;
}

}  // namespace

Calibration calibrate(const Detector& detector, BatchSource& id, bool by_class, const Exec& exec) {
  std::vector<double> scores;
  std::vector<Index> predicted;
  with_context("calibrate", [&] {
    const Inputs wanted = detector.needs().score.with({.logits = by_class});
    stream(id, wanted, exec, [&](const Batch& batch) {
      for (const float score : detector.score(batch, exec)) {
        if (std::isnan(score))
          throw_invalid("{}: {} scores row {} with NaN, expected a number", id.info().name,
                        detector.name(), scores.size());
        scores.push_back(static_cast<double>(score));
      }
      if (!by_class) return;
      std::vector<Index> classes(static_cast<std::size_t>(batch.logits->rows()));
      kernels::row_argmax(*batch.logits, classes);
      predicted.insert(predicted.end(), classes.begin(), classes.end());
    });
    if (scores.empty()) throw_invalid("{} has 0 rows, expected 1 or more", id.info().name);
  });
  return by_class ? Calibration(scores, predicted, id.info().classes) : Calibration(scores);
}

std::string rows_fingerprint(BatchSource& source, const Inputs& wanted) {
  const Inputs has = source.info().has;
  const Inputs read = {.features = wanted.features && has.features,
                       .logits = wanted.logits && has.logits};
  if (!read.any()) return {};
  Checksum sum;
  source.read(read, [&](const Batch& batch) {
    for (const auto& rows : {batch.features, batch.logits})
      if (rows)
        for (Index i = 0; i < rows->rows(); ++i)
          sum.add(rows->row_data(i), static_cast<std::size_t>(rows->cols()) * sizeof(float));
  });
  return sum.text();
}

RowsUsed rows_of_fit(const Dataset& dataset, const Detector& detector) {
  const DatasetInfo& info = dataset.info();
  RowsUsed used{.file = info.path.string(),
                .fingerprint = dataset.fingerprint(),
                .split = fit_split(info, detector),
                .rows = 0,
                .dim = info.dim,
                .classes = info.classes};
  for (const std::string_view split : kFitSplits)
    if (used.split.find(split) != used.split.npos) used.rows += dataset.at(split).source.rows;
  return used;
}

Model fit_model(std::unique_ptr<Detector> detector, const Dataset& dataset,
                const FitModelOptions& options) {
  if (!(options.alpha >= 0 && options.alpha < 1))
    throw_invalid("fit_model: alpha has {}, expected 0 or more, below 1", options.alpha);
  if (!(options.held_out > 0 && options.held_out <= 0.5))
    throw_invalid("fit_model: held_out has {}, expected above 0, 0.5 or less", options.held_out);
  const DatasetInfo& info = dataset.info();
  if (auto missing = missing_fit_inputs(info, *detector); !missing.empty())
    throw_invalid("{}: {}", detector->name(), missing);
  const auto progress = [&](const char* step, double done) {
    if (options.progress) options.progress(fmt::format("{} {}", step, detector->name()), done);
  };
  const Needs needs = detector->needs();
  Model model{.detector = nullptr, .alpha = options.alpha};
  model.calibration = {};
  const auto [split, hold_out] =
      calibration_rows(dataset, *detector, needs.score.with({.logits = options.by_class}));

  FitSources sources(dataset);
  BatchSource& all = split == Split::train ? *sources.train : *sources.id_val;
  const Parts parts = hold_out ? cut(all, options.held_out, options.seed) : Parts();
  SubsetSource held_out(all, parts.held_out), rest(all, parts.rest);

  progress("fit", 0);
  FitData data = sources.data();
  model.fitted_on = rows_of_fit(dataset, *detector);
  if (hold_out) {
    (split == Split::train ? data.train : data.id_val) = &rest;
    model.fitted_on.rows -= held_out.info().rows;
    model.fitted_on.part = true;
  }
  if (needs.fit.any() || needs.outliers.any()) detector->fit(data, options.exec);

  progress("calibrate", 0.5);
  BatchSource& calibrating = hold_out ? static_cast<BatchSource&>(held_out) : all;
  model.calibration = calibrate(*detector, calibrating, options.by_class, options.exec);
  model.calibrated_on = {.file = info.path.string(),
                         .fingerprint = dataset.fingerprint(),
                         .split = std::string(kFitSplits[static_cast<std::size_t>(split)]),
                         .rows = model.calibration.rows(),
                         .dim = info.dim,
                         .classes = info.classes,
                         .part = hold_out};
  model.detector = std::move(detector);
  return model;
}

std::vector<std::string> calibration_warnings(const Model& model) {
  std::vector<std::string> warnings;
  if (!model.calibrated()) return warnings;
  const RowsUsed &fit = model.fitted_on, &own = model.calibrated_on;
  if (!fit.fingerprint.empty() && fit.fingerprint == own.fingerprint && fit.file == own.file &&
      (fit.file.empty() || fit.split.find(own.split) != fit.split.npos) && !own.part)
    warnings.emplace_back(
        "calibrated on the rows that it was fitted on, which score too high, most of all where a "
        "detector finds each row itself: give other rows");
  if (model.calibrated_on.split == "train")
    warnings.emplace_back(
        "calibrated on rows of /train, on which the network was trained: of new rows more than "
        "alpha "
        "will be rejected; with an /id_val in the file that is taken");
  // the smallest p-value is 1 / (n + 1)
  if (model.alpha == 0) {
    warnings.emplace_back("nothing is rejected at alpha 0");
    return warnings;
  }
  const auto too_few = [&](Index rows) {
    return 1 / (static_cast<double>(rows) + 1) > model.alpha;
  };
  const double needed = std::ceil(1 / model.alpha) - 1;
  const std::span<const Index> classes = model.calibration.class_rows();
  if (const auto small = std::ranges::count_if(classes, too_few); small > 0)
    warnings.push_back(
        fmt::format("{} of {} classes have fewer than {} calibration rows: nothing is rejected "
                    "there at alpha {}",
                    small, classes.size(), needed, model.alpha));
  if (!model.calibration.by_class() && too_few(model.calibration.rows()))
    warnings.push_back(
        fmt::format("has fewer than {} calibration rows: nothing is rejected at alpha {}", needed,
                    model.alpha));
  return warnings;
}

}  // namespace ood
