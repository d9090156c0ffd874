/// A fitted detector with what is needed to decide, saved and loaded. The layout of the file is in
/// docs/model-file.md.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "ood/detector.h"
#include "ood/threshold.h"

namespace ood {

/// The rows that something was computed from. No score depends on it; widths are checked against it, and
/// calibration_warnings() looks at it.
struct RowsUsed {
  std::string file;  ///< "" for arrays in memory
  /// of the file (ood/dataset.h), or of arrays in memory (rows_fingerprint()); "" where it is not known
  std::string fingerprint;
  std::string split;  ///< "train", "id_val, train", ...; "" where no row was needed
  Index rows = 0;
  Index dim = 0;      ///< D
  Index classes = 0;  ///< C
  bool part = false;  ///< of the split: other rows of it were used for something else
};

/// A detector ready to score, and, where it is calibrated, to decide.
struct Model {
  std::unique_ptr<Detector> detector;  ///< fitted
  RowsUsed fitted_on{};
  Calibration calibration{};  ///< of no rows where there is none
  RowsUsed calibrated_on{};
  /// Share of ID rows that may be rejected: a row is accepted if its p-value is above it.
  double alpha = 0.05;
  std::string version{};  ///< of the libood that wrote the file; set by load_model()

  bool calibrated() const { return calibration.rows() > 0; }
  /// What score and p-values read: the detector's needs, and logits where it is calibrated by class.
  Inputs needs() const;
  /// What calibration.p_values() gives, for rows as wide as those that it was calibrated on: a detector that
  /// is not fitted scores rows of any width. Throws std::invalid_argument for others.
  void p_values(const Batch& batch, std::span<const float> scores, std::span<double> out) const;
  /// Rows with a score below it are rejected (not by class: there each class has its own).
  double threshold() const { return calibration.threshold(alpha); }
};

/// Writes to a temporary name beside `path`, which is renamed when the file is whole and on its way to
/// the disk: `path` is the whole new file or what it was before, whatever happens.
/// errors std::logic_error: not fitted; std::runtime_error: the file cannot be written
void save_model(const Model& model, const std::filesystem::path& path);

/// The same bits as were saved: options, state, scores.
///
/// errors std::runtime_error: no such file, not a model file, truncated, damaged (a checksum covers
///        every byte). std::invalid_argument: another version of the format, an unknown detector,
///        fields that are missing, unknown, or of a wrong type or shape. Sizes are checked against the
///        file's before anything is allocated; links and storage that lead out of the file are refused.
Model load_model(const std::filesystem::path& path);

}  // namespace ood
