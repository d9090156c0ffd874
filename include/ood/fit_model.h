/// Fitting a detector on a feature file and calibrating it on rows that it was not fitted on.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ood/dataset.h"
#include "ood/model_file.h"

namespace ood {

/// Scores of all rows of a source as a calibration. The rows must be ID, and must not be those that the
/// detector was fitted on: KNN would find each row itself.
/// errors std::invalid_argument: a missing field, bad values, scores that are NaN
Calibration calibrate(const Detector& detector, BatchSource& id, bool by_class = false,
                      const Exec& exec = {});

/// The rows of this file that fit() of ood/evaluate.h fits the detector on.
RowsUsed rows_of_fit(const Dataset& dataset, const Detector& detector);

/// XXH3 of the features and logits of all rows, as far as they are wanted and there: tells whether two
/// arrays in memory are the same. "" if neither is. One pass.
std::string rows_fingerprint(BatchSource& source, const Inputs& wanted);

struct FitModelOptions {
  double alpha = 0.05;
  bool by_class = false;
  /// Share, in (0, 0.5], of the rows that are kept from the fit where no other rows are there to
  /// calibrate on.
  double held_out = 0.1;
  Index seed = 0;  ///< of the choice of these rows
  Exec exec{};
  std::function<void(std::string_view step, double done)> progress{};
};

/// Fits on the splits that the detector asks for and calibrates
///
///   on /id_val, if it is there and the detector is not fitted on it;
///   else on a random share of its rows, or, without /id_val, of /train, which is held out of the fit.
///
/// A detector without a fit has nothing to hold out: all rows serve. Rows of /train are those that the
/// network was trained on, so that its scores of them are too high and p-values of new rows too small:
/// Model::calibrated_on says what was taken.
/// errors as fit() and calibrate(), and std::domain_error where a class would be left without rows
Model fit_model(std::unique_ptr<Detector> detector, const Dataset& dataset,
                const FitModelOptions& options = {});

/// What makes p-values and decisions of this model doubtful, a line each: rows that the detector was
/// fitted on (by RowsUsed), or the network trained on; too few rows for its alpha, as a whole or in some
/// classes.
std::vector<std::string> calibration_warnings(const Model& model);

}  // namespace ood
