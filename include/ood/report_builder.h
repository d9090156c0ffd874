/// Makes a report of scores, wherever they were computed: evaluate() gives it those of a feature file.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "ood/detector.h"
#include "ood/intervals.h"
#include "ood/report.h"

namespace ood {

/// The options of a detector by name, as a report has them.
OptionMap option_map(const Detector& detector);

/// What a report has of scores besides their metrics, at 8 bytes for each row and detector.
struct ReportParts {
  bool curves = false;       ///< Report::curves and agreement
  bool keep_scores = false;  ///< Report::scores
};

/// The results of one detector, set by set, of its scores or of counts of them in bins. Scores are not kept but
/// for ReportParts.
class DetectorResults {
 public:
  /// found: by its fit.
  DetectorResults(ReportTiming fitted, Diagnostics found, ReportParts parts = {});

  /// Scores of /id_test, before the first set.
  void set_id(std::vector<double> scores);
  /// Scores of the next set. Where they cannot be ranked (NaN, or none), the detector fails: "on svhn: <why>".
  void add_set(std::string name, std::string kind, std::vector<double> scores);

  /// The same of counts (ood/score_bins.h): what is known of metrics is in ReportRow::bounds. Throws
  /// std::invalid_argument as binned_metrics(), and if parts are asked for, which need scores.
  void set_id_counts(std::vector<std::int64_t> counts);
  void add_set_counts(std::string name, std::string kind, BinCounts counts);

  /// It is left out of the report, for this reason. Nothing may be added after that.
  void fail(std::string why);
  bool failed() const { return !failure_.empty(); }

  ReportTiming timing;  ///< may be changed until the report is finished

 private:
  friend class ReportBuilder;

  void add_row(ReportRow row, Ranking ranking);

  Diagnostics found_;
  ReportParts parts_;
  std::string failure_;  // why it has no scores, or none that can be ranked; "" where it has
  std::vector<double> id_scores_;
  std::vector<std::int64_t> id_counts_;
  std::vector<ReportRow> rows_;
  std::array<MeanAuroc, 2> mean_aurocs_;  // of the near, of the far sets
  std::vector<ReportCurve> curves_;
  std::vector<double> all_scores_;  // of /id_test and the sets, for the agreement
  std::vector<ReportScores::Set> kept_scores_;
};

/// Puts the results of detectors together, in the order in which they are added.
class ReportBuilder {
 public:
  /// header: what it says of the file; its lists are added to.
  explicit ReportBuilder(Report header) : report_(std::move(header)) {}

  /// A detector that could not be run.
  void leave_out(std::string detector, std::string reason);
  /// False where it has failed and is left out. Throws std::invalid_argument if a detector of this name and these
  /// options is there, or it has other sets than those that are.
  bool add(DetectorResults results);
  /// The report, with means and agreement; the builder is empty then.
  Report finish();

 private:
  Report report_;
  std::vector<std::vector<double>> all_scores_;  // of each of the timings
};

}  // namespace ood
