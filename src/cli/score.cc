#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/progress_line.h"
#include "cli/score_output.h"
#include "cli/scoring.h"
#include "errors.h"

namespace ood::cli {

namespace {

struct ScoreArguments {
  ScoringArguments scoring;
  std::string out;
  std::optional<double> fdr;
};

/// Passes rows on with what was decided about them, and counts.
class Decisions {
 public:
  explicit Decisions(ScoreOutput& output) : output_(output) {}

  /// A row is accepted if its value is above the limit; there are no values where there is no calibration.
  void write(const ScoredRows& rows, std::span<const double> values, double limit) {
    accepted_.resize(values.size());
    std::ranges::transform(values, accepted_.begin(),
                           [&](double value) -> unsigned char { return value > limit; });
    rows_ += std::ssize(rows.scores);
    rejected_ += std::ranges::count(accepted_, 0);
    output_.append(rows, accepted_);
  }
  Index rows() const { return rows_; }
  Index rejected() const { return rejected_; }

 private:
  ScoreOutput& output_;
  std::vector<unsigned char> accepted_;
  Index rows_ = 0, rejected_ = 0;
};

/// All rows, for decisions that need all p-values first.
struct KeptRows {
  std::vector<float> scores;
  std::vector<double> p_values;

  void reserve(std::size_t rows) {
    scores.reserve(rows);
    p_values.reserve(rows);
  }
  void append(const ScoredRows& rows) {
    scores.insert(scores.end(), rows.scores.begin(), rows.scores.end());
    p_values.insert(p_values.end(), rows.p_values.begin(), rows.p_values.end());
  }
  void write(Decisions& decisions, double fdr) const {
    constexpr std::size_t kBlock = 16'384;
    const std::vector<double> adjusted = adjusted_p_values(p_values);
    for (std::size_t begin = 0; begin < scores.size(); begin += kBlock) {
      const std::size_t count = std::min(kBlock, scores.size() - begin);
      decisions.write({static_cast<Index>(begin), std::span(scores).subspan(begin, count),
                       std::span(p_values).subspan(begin, count)},
                      std::span(adjusted).subspan(begin, count), fdr);
    }
  }
};

Status run(const ScoreArguments& arguments) {
  if (arguments.fdr) require_share("--fdr", *arguments.fdr);
  require_output(arguments.out, arguments.scoring.model);
  require_output(arguments.out, arguments.scoring.data);
  Scoring scoring(arguments.scoring);
  const Model& model = scoring.model();
  if (!model.calibrated() && (arguments.scoring.alpha || arguments.fdr))
    throw_invalid("{} has no calibration, expected one for {}", arguments.scoring.model,
                  arguments.fdr ? "--fdr" : "--alpha");
  const bool by_alpha = model.calibrated() && !arguments.fdr;
  const auto output = open_score_output(
      arguments.out, {.model = arguments.scoring.model,
                      .detector = std::string(model.detector->name()),
                      .rows = scoring.rows_name(),
                      .calibrated = model.calibrated(),
                      .alpha = by_alpha ? std::optional(model.alpha) : std::nullopt,
                      .fdr = arguments.fdr});
  Decisions decisions(*output);
  {
    // rows on a terminal are progress enough
    std::optional<ProgressLine> line;
    if (scoring.rows() && (!arguments.out.empty() || isatty(STDOUT_FILENO) == 0)) line.emplace();
    KeptRows kept;
    if (arguments.fdr && scoring.rows()) kept.reserve(static_cast<std::size_t>(*scoring.rows()));
    scoring.run([&](const ScoredRows& rows) {
      if (arguments.fdr)
        kept.append(rows);
      else
        decisions.write(rows, rows.p_values, model.alpha);
      if (line)
        line->show("score " + scoring.rows_name(),
                   static_cast<double>(rows.first_row + std::ssize(rows.scores)) /
                       static_cast<double>(*scoring.rows()));
    });
    if (arguments.fdr) kept.write(decisions, *arguments.fdr);
    output->close();
  }
  const auto rows = decisions.rows(), rejected = decisions.rejected();
  fmt::print(stderr, "{}: {} rows", scoring.rows_name(), rows);
  if (model.calibrated())
    fmt::print(stderr, ", {} rejected ({:.4g} %) at {} {}\n", rejected,
               100 * static_cast<double>(rejected) / static_cast<double>(rows),
               by_alpha ? "alpha" : "false discovery rate",
               by_alpha ? model.alpha : *arguments.fdr);
  else
    fmt::print(stderr, ", no p-values: the model is not calibrated\n");
  return kDone;
}

}  // namespace

void add_score(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "score", "Score rows by a model file: score, p-value and decision for each");
  auto arguments = std::make_shared<ScoreArguments>();
  add_scoring_arguments(*command, arguments->scoring);
  command->add_option("--out,-o", arguments->out,
                      "Write to this file, .csv, .npy or .h5, instead of CSV to standard output");
  command
      ->add_option(
          "--fdr", arguments->fdr,
          "Reject rows so that the expected share of in-distribution rows among them is this "
          "or less (Benjamini-Hochberg); keeps 28 bytes a row")
      ->excludes("--alpha");
  command->callback([arguments, &action] { action = [arguments] { return run(*arguments); }; });
}

}  // namespace ood::cli
