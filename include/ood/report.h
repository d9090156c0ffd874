/// The result of an evaluation, and how it is written.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ood/curves.h"
#include "ood/detector.h"
#include "ood/fields.h"
#include "ood/intervals.h"
#include "ood/metrics.h"
#include "ood/score_bins.h"
#include "ood/search.h"

namespace ood {

/// One detector on one set of outliers. A detector is known by name and options together.
struct ReportRow {
  std::string detector;
  OptionMap options;
  std::string dataset;  ///< "svhn"
  std::string kind;     ///< "near", "far" or ""
  Index n_id = 0;
  Index n_ood = 0;
  Metrics metrics;
  /// DeLong's at 95 %, its value that of metrics.auroc; nothing where n_id or n_ood is 1
  std::optional<Interval> auroc_interval{};
  /// Where the metrics are those of counts of scores in bins (ood/score_bins.h); nothing where they are exact
  std::optional<MetricBounds> bounds{};
};

/// The unweighted mean of a detector's metrics over all sets of one kind.
struct ReportMean {
  std::string detector;
  OptionMap options;
  std::string kind;
  Index datasets = 0;
  Metrics metrics;
  std::optional<Interval>
      auroc_interval{};  ///< as of rows (MeanAuroc); nothing where a row has none
  std::optional<MetricBounds>
      bounds{};  ///< means of those of the rows; nothing where a row has none
};

struct ReportTiming {
  std::string detector;
  OptionMap options;
  std::string fitted_on{};   ///< "train", "id_val", or "" where there is nothing to fit
  bool fell_back = false;    ///< on another split than the detector asks for
  double fit_seconds = 0;    ///< reading the rows included
  double score_seconds = 0;  ///< of all sets, without reading them
  Index scored_rows = 0;
};

/// What a detector's fit found out about itself.
struct ReportFit {
  std::string detector;
  OptionMap options;
  Diagnostics found;
};

/// One detector on one set of outliers, drawn.
struct ReportCurve {
  std::string detector;
  OptionMap options;
  std::string dataset;
  std::vector<RocPoint> roc;
  ScoreHistogram histogram;
};

/// The scores of a detector's rows, in the order of the file.
struct ReportScores {
  struct Set {
    std::string dataset;
    std::vector<double> scores;
  };
  std::string detector;
  OptionMap options;
  std::vector<double> id_test;
  std::vector<Set> sets;  ///< those of `rows`, in their order
};

/// A detector that could not be run, and why.
struct LeftOut {
  std::string detector;
  std::string reason;
};

struct Report {
  std::string file;
  std::string model;
  std::string id_dataset;
  std::string version;  ///< of libood
  std::optional<double> id_accuracy;
  std::vector<ReportRow> rows;  ///< detector by detector
  /// near, then far, for each detector where there are such sets
  std::vector<ReportMean> means{};
  std::vector<ReportTiming> timings;  ///< one for each detector that was run
  std::vector<LeftOut> left_out;
  std::vector<ReportFit> fits{};         ///< one for each detector whose fit says something
  std::vector<SearchResult> searches{};  ///< by which options were chosen
  /// Of the file, see ood/dataset.h; "" without EvaluateOptions::curves and keep_scores
  std::string fingerprint{};
  std::vector<ReportScores> scores{};  ///< one for each of `timings` (EvaluateOptions::keep_scores)
  // What only a figure needs (EvaluateOptions::curves)
  std::vector<ReportCurve> curves{};  ///< one for each of `rows`, in their order
  /// Rank correlation of the scores of all rows of /id_test and the sets, in the order of `timings`
  MatrixD agreement{};
};

/// Tables for people: AUROC and FPR95 in percent, a row for each detector, a column for each set;
/// then the curve of each search; then, if verbose, what the fits found out about themselves.
std::string to_table(const Report& report, bool verbose = false);
/// The same tables in Markdown.
std::string to_markdown(const Report& report, bool verbose = false);
/// A line for each detector and set; shares, not percent.
std::string to_csv(const Report& report);
/// Everything; stable and documented in docs/report.md.
std::string to_json(const Report& report);
/// One page for a browser, with all it needs inside: tables, and figures where the report has curves.
std::string to_html(const Report& report);

}  // namespace ood
