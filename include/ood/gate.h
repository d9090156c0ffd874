/// A gate before a release: metrics that an evaluation has to reach, and a comparison with a baseline
/// that a real drop fails and noise does not.
///
/// errors std::invalid_argument: whatever keeps a check from being made (a name that the report does not
///        have, with those near it; a detector that was left out; a metric that is NaN; an interval that
///        is not there). Nothing that was not checked passes.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ood/baseline.h"
#include "ood/dataset.h"
#include "ood/exec.h"
#include "ood/report.h"

namespace ood {

/// `<detector>.<set>.<metric>[.lo95|.hi95] <op> <bound>`, such as `conjnorm.far.auroc >= 0.93`, or
/// `id_accuracy <op> <bound>`. set: one of /ood, or `near` or `far` for the mean over the sets of that
/// kind. metric: one of ood/metrics.h, by its name in a report. lo95 and hi95: the ends of its 95 %
/// interval.
struct Requirement {
  enum class Of { value, low, high };
  std::string text;      ///< as it was given
  std::string detector;  ///< "" for id_accuracy
  std::string set;       ///< "" for id_accuracy; may hold dots
  std::string metric;
  Of of = Of::value;
  std::string op;    ///< ">=", ">", "<=" or "<"
  double bound = 0;  ///< a share in [0, 1]: 0.93, not 93

  /// "conjnorm.far.auroc.lo95"
  std::string name() const;
};

/// errors std::invalid_argument: not of this form, an unknown metric, a bound out of [0, 1]
Requirement parse_requirement(std::string_view text);

/// Throws what gate() would throw for a detector or set that the library or the file does not have;
/// before an evaluation, which may take long.
void require_known(const Requirement& requirement, const DatasetInfo& info);
/// The same of a baseline.
void require_known(const Baseline& baseline, const DatasetInfo& info);

struct GateOptions {
  std::vector<Requirement> requirements{};
  const Baseline* baseline = nullptr;  ///< nothing is compared without one
  /// AUROC that may be lost, in [0, 1]
  double max_drop = 0.005;
  /// The rows are those of the baseline, one for one, though the file is another one: the same samples
  /// through another network. The fingerprint tells it where the file is the same.
  bool same_rows = false;
  Exec exec{};
};

/// One requirement, checked.
struct RequirementCheck {
  Requirement requirement;
  double got = 0;  ///< the metric, or the end of its interval that is asked for
  /// 95 %, of the metric: DeLong's for auroc, else the bootstrap's, where the requirement asks for an
  /// end or does not hold; nothing for the means of other metrics than auroc, for id_accuracy, and
  /// where a set has one row
  std::optional<Interval> interval{};
  bool holds = false;
};

/// The AUROC of one detector on one set, compared.
struct DropCheck {
  std::string detector;
  std::string set;
  double before = 0;  ///< AUROC of the baseline
  double now = 0;
  Interval drop;  ///< before - now, 95 %
  double p_value =
      0;  ///< of a drop above max_drop, one-sided, adjusted by Holm over all that is compared
  bool holds = false;
};

struct GateResult {
  std::string file;
  std::string version;  ///< of libood
  std::vector<RequirementCheck> requirements;
  double max_drop = 0;
  bool paired = false;  ///< compared row by row
  std::vector<DropCheck> drops;
  std::vector<std::string> notes;  ///< what was not compared, or with other options

  Index checks() const;
  Index failed() const;
  bool holds() const { return failed() == 0; }
};

/// Checks a report that has its scores (EvaluateOptions::keep_scores). Metrics of one set other than auroc
/// have intervals by bootstrap_intervals() with its defaults: the same on each run.
///
/// Against the baseline each detector of it is compared on each set of it. With the drop d = before - now
/// and its standard deviation sd by DeLong (compare_auroc where file or same_rows say that rows are the
/// same, so that they are paired; else compare_auroc_unpaired), a check fails if
///
///   p' <= 0.05,   p = P(N(0, 1) >= (d - max_drop) / sd),
///
/// p' being p adjusted by Holm's method over all k comparisons: with p_(1) <= ... <= p_(k),
///
///   p'_(i) = max_{j <= i} min(1, (k - j + 1) p_(j))
///
/// so that a run in which no AUROC has dropped by more than max_drop fails with a probability of 0.05 or
/// less, whatever the number and dependence of detectors and sets. Where sd is 0, any drop above max_drop
/// fails. Rows are what is random here: a network trained again
/// differs by more than its test rows, and max_drop has to allow for that. DeLong's test is one for many
/// rows: below some hundred of a kind, or with AUROCs near 1, p is only roughly right.
///
/// errors, besides: a detector or set of the baseline that the report lacks; other numbers of rows where
///        rows are the same; two detectors of one name; max_drop out of [0, 1].
///
/// Source: Holm, Scandinavian Journal of Statistics 6 (1979); DeLong: see ood/intervals.h.
GateResult gate(const Report& report, const GateOptions& options);

/// Holm's adjusted p-values (see gate()), in the order given. Throws std::invalid_argument for a p-value
/// out of [0, 1].
std::vector<double> holm_adjusted(std::span<const double> p_values);

/// "required >= 0.93, got 0.9112, 95 % interval [0.9010, 0.9214]"
std::string to_text(const RequirementCheck& check);
/// "AUROC dropped by 0.0213 from 0.9500 to 0.9287, ..."
std::string to_text(const DropCheck& check, double max_drop);

/// For a terminal: all checks, then a line for each that failed.
std::string to_table(const GateResult& result);
/// The same for a page, such as GitHub's summary of a job.
std::string to_markdown(const GateResult& result);
std::string to_json(const GateResult& result);
/// JUnit's XML, which CI systems show: a test case for each check.
std::string to_junit(const GateResult& result);

}  // namespace ood
