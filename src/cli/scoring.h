/// What `ood score` and `ood monitor` have in common: a model file scores the rows of a feature file or
/// of standard input.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "ood/dataset.h"
#include "ood/model_file.h"

namespace ood::cli {

struct ScoringArguments {
  std::string model;
  std::string data;   // a feature file, or "-"
  std::string split;  // "" = the only one
  std::optional<Index> dim;
  std::optional<double> alpha;  // instead of the model's
  Exec exec;

  bool standard_input() const { return data == "-"; }
};

void add_scoring_arguments(CLI::App& command, ScoringArguments& arguments);

/// Consecutive rows that were scored.
struct ScoredRows {
  Index first_row = 0;
  std::span<const float> scores;
  std::span<const double> p_values;  // empty where the model is not calibrated
};

/// A model and the rows that it is to score: opened and checked against each other when constructed.
class Scoring {
 public:
  explicit Scoring(const ScoringArguments& arguments);

  const Model& model() const { return model_; }
  /// "features.h5: /id_test", "standard input"
  const std::string& rows_name() const { return rows_name_; }
  /// Where it is known beforehand.
  std::optional<Index> rows() const;
  /// One pass in row order, block by block; of standard input as rows come in. Throws for values that
  /// are not finite, scores that are NaN, an incomplete last row, no rows.
  void run(const std::function<void(const ScoredRows&)>& visit);

 private:
  Exec exec_;
  Model model_;
  std::unique_ptr<BatchSource> source_;  // nullptr for standard input
  Index dim_ = 0;                        // of the rows of standard input
  std::string rows_name_;
};

/// Throws unless 0 < value < 1.
void require_share(const char* flag, double value);

}  // namespace ood::cli
