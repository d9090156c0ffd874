/// Where `ood score` writes: CSV, NumPy's .npy, HDF5.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "cli/scoring.h"

namespace ood::cli {

/// What HDF5 files say about their rows.
struct ScoreOrigin {
  std::string model;  ///< path
  std::string detector;
  std::string rows;  ///< "features.h5: /id_test"
  bool calibrated = false;
  std::optional<double> alpha, fdr;  ///< what decided
};

/// Takes consecutive rows. A regular file is written under another name until close(), so that the name
/// stands for a whole file or for what it was before. Throws std::runtime_error if it cannot be written.
class ScoreOutput {
 public:
  ScoreOutput() = default;
  ScoreOutput(const ScoreOutput&) = delete;
  ScoreOutput& operator=(const ScoreOutput&) = delete;
  virtual ~ScoreOutput() = default;
  /// accepted: 1 or 0 for each row; empty where the model is not calibrated.
  virtual void append(const ScoredRows& rows, std::span<const unsigned char> accepted) = 0;
  virtual void close() = 0;
};

/// By the end of the name: .csv, .npy, .h5 or .hdf5; "" is standard output, and pipes and devices are
/// written as CSV. Throws std::invalid_argument for other names.
std::unique_ptr<ScoreOutput> open_score_output(const std::string& out, const ScoreOrigin& origin);

}  // namespace ood::cli
