#include "cli/scoring.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <system_error>
#include <vector>

#include "cli/commands.h"
#include "errors.h"
#include "ood/devices.h"
#include "ood/kernels.h"
#include "ood/stream.h"

namespace ood::cli {

namespace {

constexpr const char* kStandardInput = "standard input";
constexpr std::size_t kBlockBytes = 1 << 20;
constexpr Index kMostDim = 1 << 24;

static_assert(std::endian::native == std::endian::little);  // rows are passed on as they come in

std::string choose_split(const Dataset& dataset, const std::string& wanted) {
  if (!wanted.empty()) return dataset.at(wanted).name;  // throws if there is none
  const auto& splits = dataset.info().splits;
  if (splits.size() == 1) return splits.front().name;
  std::vector<std::string> names;
  for (const SplitInfo& split : splits) names.push_back(split.name);
  throw_invalid("--split has nothing, expected one of {} ({})", fmt::join(names, ", "),
                dataset.info().path.string());
}

/// D or C of the rows that the model was made with; 0 where it does not know.
Index known_width(const Model& model, Index RowsUsed::*width) {
  return std::max(model.fitted_on.*width, model.calibrated_on.*width);
}

/// A detector that is not fitted takes rows of any width; the calibration is of one.
void require_widths(const Model& model, const SourceInfo& rows) {
  const auto require = [&](const char* what, Index got, Index known) {
    if (got > 0 && known > 0 && got != known)
      throw_invalid("{} has {} {}, expected {} as the model was made with", rows.name, got, what,
                    known);
  };
  const Inputs needs = model.needs();
  if (needs.features) require("features", rows.dim, known_width(model, &RowsUsed::dim));
  if (needs.logits) require("classes", rows.classes, known_width(model, &RowsUsed::classes));
}

/// The width of the one array that comes by standard input.
Index standard_input_dim(const Model& model, std::optional<Index> dim) {
  const Inputs needs = model.needs();
  const auto names = needs.names();
  if (names.size() != 1 || !(needs.features || needs.logits))
    throw_invalid(
        "{} has one array, features or logits, expected a feature file for a model that needs {}",
        kStandardInput, fmt::join(names, ", "));
  const Index known = known_width(model, needs.features ? &RowsUsed::dim : &RowsUsed::classes);
  if (known == 0 && !dim)
    throw_invalid("--dim has nothing, expected the number of {} of a row, which the model lacks",
                  names.front());
  if (dim && (*dim < 1 || *dim > kMostDim))
    throw_invalid("--dim has {}, expected 1 to {}", *dim, kMostDim);
  if (known > 0 && dim && *dim != known)
    throw_invalid("--dim has {}, expected {} {} as the model was made with", *dim, known,
                  names.front());
  return dim ? *dim : known;
}

/// Reads rows of `dim` numbers and passes them on as they come in.
void read_standard_input(Index dim, const std::function<void(const MatrixView&, Index)>& visit) {
  const std::size_t row_bytes = static_cast<std::size_t>(dim) * sizeof(float);
  const std::size_t capacity = std::max<std::size_t>(kBlockBytes / row_bytes, 1);
  std::vector<float> block(capacity * static_cast<std::size_t>(dim));
  char* const bytes = reinterpret_cast<char*>(block.data());
  std::size_t filled = 0;  // bytes of the block
  Index first_row = 0;
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, bytes + filled, capacity * row_bytes - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      throw std::runtime_error(fmt::format("{} cannot be read: {}", kStandardInput,
                                           std::generic_category().message(errno)));
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
    const std::size_t rows = filled / row_bytes;
    if (rows == 0) continue;
    const MatrixView view(block.data(), static_cast<Index>(rows), dim);
    visit(view, first_row);
    first_row += view.rows();
    filled -= rows * row_bytes;
    std::memmove(bytes, bytes + rows * row_bytes, filled);
  }
  if (filled > 0)
    throw_invalid("{} has {} bytes of row {}, expected {} ({} float32)", kStandardInput, filled,
                  first_row, row_bytes, dim);
  if (first_row == 0) throw_invalid("{} has no rows, expected 1 or more", kStandardInput);
}

}  // namespace

void add_scoring_arguments(CLI::App& command, ScoringArguments& arguments) {
  command.add_option("model", arguments.model, "Model file, as `ood fit --out` writes it")
      ->required();
  command
      .add_option("data", arguments.data,
                  "Feature file (HDF5), or -: rows of little-endian float32 from standard input")
      ->required();
  command.add_option(
      "--split,-s", arguments.split,
      "The rows to score: id_test, ood/svhn, ... (may be left out if the file has one "
      "split)");
  command.add_option("--dim", arguments.dim,
                     "With -: numbers in a row (may be left out if the model knows it)");
  command.add_option("--alpha", arguments.alpha,
                     "Reject rows whose p-value is this or less (default: as the model says)");
  command.add_option("--threads", arguments.exec.threads, "Threads; 0 = all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_device_argument(command, arguments.exec.device);
}

Scoring::Scoring(const ScoringArguments& arguments)
    : exec_(arguments.exec), model_(load_model(arguments.model)) {
  require_device(exec_.device);
  if (arguments.alpha) {
    require_share("--alpha", *arguments.alpha);
    model_.alpha = *arguments.alpha;
  }
  if (arguments.standard_input()) {
    if (!arguments.split.empty())
      throw_invalid("--split has {}, expected none with {}", arguments.split, kStandardInput);
    dim_ = standard_input_dim(model_, arguments.dim);
    rows_name_ = kStandardInput;
    return;
  }
  if (arguments.dim)
    throw_invalid("--dim has {}, expected none with a feature file", *arguments.dim);
  const Dataset dataset(arguments.data);
  source_ = dataset.source(choose_split(dataset, arguments.split));
  require_widths(model_, source_->info());
  rows_name_ = source_->info().name;
}

std::optional<Index> Scoring::rows() const {
  return source_ ? std::optional(source_->info().rows) : std::nullopt;
}

void Scoring::run(const std::function<void(const ScoredRows&)>& visit) {
  std::vector<float> scores;
  std::vector<double> p_values;
  const Detector& detector = *model_.detector;
  const auto score = [&](const Batch& batch) {
    scores.resize(static_cast<std::size_t>(batch.rows()));
    detector.score(batch, scores, exec_);
    const auto bad = std::ranges::find_if(scores, [](float s) { return std::isnan(s); });
    if (bad != scores.end())
      throw_invalid("{}: the {} score of row {} is NaN, expected a number", rows_name_,
                    detector.name(), batch.first_row + (bad - scores.begin()));
    if (model_.calibrated()) {
      p_values.resize(scores.size());
      model_.p_values(batch, scores, p_values);
    }
    visit({batch.first_row, scores, p_values});
  };
  const Inputs needs = model_.needs();
  if (source_) return stream(*source_, needs, exec_, score);
  read_standard_input(dim_, [&](const MatrixView& rows, Index first_row) {
    if (const auto place = kernels::find_nonfinite(rows)) {
      const auto [row, column] = *place;
      throw_invalid("{} has {} at row {}, column {}, expected finite numbers", kStandardInput,
                    std::isnan(rows(row, column)) ? "NaN" : "infinity", first_row + row, column);
    }
    Batch batch;
    (needs.features ? batch.features : batch.logits) = rows;
    batch.first_row = first_row;
    score(batch);
  });
}

void require_share(const char* flag, double value) {
  if (!(value > 0 && value < 1))
    throw_invalid("{} has {}, expected a share in (0, 1)", flag, value);
}

}  // namespace ood::cli
