/// The scores of an evaluation, kept in a file that later evaluations are compared with.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ood/report.h"

namespace ood {

struct Baseline {
  std::string version;               ///< of libood
  std::string fingerprint;           ///< of the feature file, see ood/dataset.h
  std::vector<ReportScores> scores;  ///< one for each detector; they differ in name
};

/// Of a report with scores (EvaluateOptions::keep_scores).
///
/// errors std::invalid_argument: no scores, two detectors of one name, /id_test or a set of one row
///        (what cannot be compared)
Baseline make_baseline(const Report& report);

/// As JSON, for people and version control: for each detector its options and for each set the number of
/// rows and the AUROC, and the scores of every row as base64 of little-endian float32, which is what
/// detectors give. The layout is in docs/ci.md.
std::string to_json(const Baseline& baseline);

/// What to_json() wrote, with the same bits; a name that is not known is an error, not skipped.
///
/// errors std::runtime_error: a file that cannot be read. std::invalid_argument: no JSON, another
///        version of the format, a field that is missing or of another type, scores that are no numbers
///        or not as many as the file says, an AUROC that is not that of the scores, what make_baseline()
///        refuses. The message says where in the file.
Baseline read_baseline(const std::filesystem::path& path);
/// The same of text; `name` is what messages call it.
Baseline baseline_from_json(std::string_view text, const std::string& name);

}  // namespace ood
