/// What `ood eval`, `ood report` and `ood gate` do before they write.
#pragma once

#include <string>

#include "cli/detector_arguments.h"
#include "ood/evaluate.h"
#include "ood/report.h"

namespace ood::cli {

/// Chooses options, fits, scores and compares as the command line says, with a line of progress; says
/// on stderr what was left out and what fits warn of. `out` is where the result will go, "" for
/// stdout. Throws if it is the feature file itself, if a detector that was asked for by name cannot
/// be run, and if none can. Of `options`, what is to be kept counts; the rest follows from the line.
Report evaluate_file(const std::string& file, const DetectorArguments& arguments,
                     const std::string& out, EvaluateOptions options = {});

}  // namespace ood::cli
