/// Detectors x outlier sets x metrics.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ood/dataset.h"
#include "ood/detector.h"
#include "ood/report.h"

namespace ood {

/// What keeps `detector` from being evaluated on this file: "no /train", "no labels in /train", "has no code
/// for cuda:0". Empty if nothing does. Looks at the structure of the file, not at its values.
std::string missing_inputs(const DatasetInfo& info, const Detector& detector,
                           const Device& device = {});
/// What keeps it from being fitted.
std::string missing_fit_inputs(const DatasetInfo& info, const Detector& detector);

/// The splits of this file that the detector is fitted or calibrated on: "train", "id_val", "id_val,
/// train", or "" where there is nothing to fit, or nothing but the head.
std::string fit_split(const DatasetInfo& info, const Detector& detector);

/// What fit() does with this file, before it is done: no seconds yet.
ReportTiming plan_fit(const DatasetInfo& info, const Detector& detector);

/// Fits on the splits of a file, and says what was done; nothing where there is nothing to fit. No
/// set of /ood is read.
ReportTiming fit(Detector& detector, const Dataset& dataset, const Exec& exec = {});

/// What several detectors and the network say of the same rows.
struct SourceScores {
  struct OfDetector {
    std::vector<float> scores;  ///< of each row; none where it failed
    std::string failure;        ///< why it is not defined for some row (std::domain_error), or ""
    double seconds = 0;         ///< reading not included
  };
  std::vector<OfDetector> detectors;
  std::optional<Index> right;  ///< rows whose largest logit is at the label
};

/// Scores the rows of a source with all detectors, in one pass; counts the rows that are classified right, if
/// asked to, where there are labels, and logits or what makes them. Errors: those of stream() and Detector::score().
SourceScores score_source(BatchSource& source, std::span<const Detector* const> detectors,
                          bool count_right = false, const Exec& exec = {});

struct EvaluateOptions {
  Exec exec{};
  /// Sets of /ood, by name, that are not scored: those that options were chosen on.
  std::vector<std::string> without{};
  /// Fills Report::curves, agreement and fingerprint; keeps the scores of all rows meanwhile, 8
  /// bytes each for each detector.
  bool curves = false;
  /// Fills Report::scores and fingerprint: 8 bytes for each row and detector. No writer of a report
  /// shows the scores.
  bool keep_scores = false;
  /// Told what is being done ("fit knn", "score svhn") and which share of the steps is done.
  std::function<void(std::string_view step, double done)> progress{};
};

/// Fits each detector on /train or /id_val (Needs::split; on the other one where there is none, which
/// the report says) and on /ood_val where it asks for outliers, scores /id_test and every /ood set (each file pass serves all
/// detectors), and computes the metrics. Detectors are left fitted. Listed in Report::left_out,
/// with the reason, is one that the contents of the file do not allow, that has no code for the device, that
/// is not defined for its data (std::domain_error in fit or score), or whose scores are not numbers (rows too large for float32).
///
/// errors std::invalid_argument: no /id_test, no /ood set, none that is left, a name in `without`
///        that is none of them; two detectors of the same name and options; bad values in the file.
///        DeviceError: the device that is to score is not there, before the first fit, or fails.
Report evaluate(const Dataset& dataset, std::span<const std::unique_ptr<Detector>> detectors,
                const EvaluateOptions& options = {});

}  // namespace ood
