/// What all detectors have in common.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ood/batch.h"
#include "ood/exec.h"
#include "ood/fields.h"
#include "ood/kernels.h"

namespace ood {

namespace kernels {
class DeviceCopies;
class DeviceQueue;
}  // namespace kernels

/// Options that somebody published together, under a name: `set_options({{"preset", "cifar10"}})`.
struct Preset {
  std::string name;
  OptionMap options;
  std::string help;
};

/// What a fit found out about itself.
struct Diagnostics {
  struct Column {
    std::string name;
    std::vector<double> values;
  };
  std::vector<std::pair<std::string, OptionValue>> values;  ///< of the whole fit
  std::vector<Column> per_class;                            ///< each with C entries
  std::vector<std::string> warnings;                        ///< a line each

  bool any() const { return !values.empty() || !per_class.empty() || !warnings.empty(); }
};

/// Several settings of one detector on the same rows: what a search compares. Errors are those of
/// the detector.
class Candidates {
 public:
  virtual ~Candidates() = default;
  virtual void fit(BatchSource& source, const Exec& exec = {}) = 0;
  /// out [n, settings].
  virtual void score(const Batch& batch, MatrixD& out, const Exec& exec = {}) const = 0;
  /// Of the fit of one setting; empty before it.
  virtual Diagnostics diagnostics(Index setting) const = 0;
};

/// What candidates score a row with: the detector's score, or the logarithm of a density that
/// integrates to 1, in a measure that is the same for all settings.
enum class Quantity { score, log_likelihood };

/// A detector says how in-distribution each sample is. A HIGHER SCORE MEANS MORE IN-DISTRIBUTION,
/// everywhere, without exception.
///
/// fit() reads a source in a few passes; score() is const and safe to call from several threads. A
/// row's score depends on that row and the fitted state alone: the same bits for any number of
/// threads and any cut into batches. A row with NaN or infinity scores NaN.
///
/// With Exec::device a GPU scores: rows are streamed there in blocks while those before are at work, fitted
/// state is copied there once and kept until the next fit; fits run on the processor. Scores agree with the
/// processor's within the bounds of the kernels, and are the same from run to run. A block for which the device
/// has too little memory is cut in half, until it fits.
///
/// errors std::invalid_argument, worded `<detector>.<method>: <what> has <got>, expected <want>`:
///        missing inputs, wrong widths, values that are not finite in fit, unknown options or
///        values out of range. std::logic_error: score before fit. std::domain_error: data that the
///        method is not defined for, such as a class without samples, or rows to be scored that
///        are below zero where the method takes what is left of a ReLU. std::runtime_error: a device that is
///        not there, or fails.
class Detector {
 public:
  virtual ~Detector() = default;

  virtual std::string_view name() const = 0;
  virtual Needs needs() const = 0;
  /// Of the detectors that this one is made of, each on splits of its own; else empty.
  virtual std::vector<Needs> needs_of_members() const { return {}; }
  virtual std::unique_ptr<Detector> clone() const = 0;
  /// Shows options, then state, in a fixed order. Use options() and the functions of
  /// ood/serialize.h rather than this.
  virtual void visit(FieldVisitor& visitor) = 0;

  /// Fits on all rows of `source`. A second fit forgets the first; one that throws leaves the
  /// detector unfitted.
  void fit(BatchSource& source, const Exec& exec = {});
  /// Fits on the split that needs() names, or on the other one where it is not there; on
  /// validation outliers too where needs().outliers asks for them.
  void fit(const FitData& data, const Exec& exec = {});
  /// Writes the score of row i to out[i]. `out` has as many entries as the batch has rows.
  void score(const Batch& batch, std::span<float> out, const Exec& exec = {}) const;
  std::vector<float> score(const Batch& batch, const Exec& exec = {}) const;
  /// True after fit(), and always for a detector whose needs().fit is empty.
  bool fitted() const;
  /// Whether score() may be given a GPU; if not, it throws std::invalid_argument there.
  virtual bool runs_on_devices() const { return true; }
  /// The same for rows that are in a device's memory already, used in place, as `out` is: work that is added
  /// to `stream`, of which everything is given to the device when this returns, unless a score throws
  /// std::domain_error for some rows: that is waited for. Use ood/cuda.h rather than this.
  void score_in_place(const Batch& batch, std::span<float> out, kernels::DeviceQueue& queue) const;

  std::vector<OptionInfo> options() const;
  /// Sets options by name and forgets what was fitted. Strings are read as the option's own type
  /// ("200", "true", "pooled", "0.2,0.8"). The name `preset` stands for the options of one of
  /// presets(), or, where there are any, as `paper` for all defaults; options given beside it win.
  /// All or nothing: a wrong name or value changes no option.
  void set_options(const OptionMap& values);
  virtual std::vector<Preset> presets() const { return {}; }

  /// What the last fit found out about itself; empty before it.
  Diagnostics diagnostics() const;
  /// This detector in several settings, each a change of its options, not fitted yet. Fits and
  /// scores are those of the single detectors, or, where a detector says so, estimates from fewer
  /// rows that serve to compare settings. Throws std::invalid_argument for a wrong option, and for
  /// log_likelihood where the detector has no density.
  virtual std::unique_ptr<Candidates> candidates(std::span<const OptionMap> settings,
                                                 Quantity quantity) const;

  /// Shows name and fitted widths beside what visit() shows: what is to be saved.
  void visit_all(FieldVisitor& visitor);
  /// Makes what score() needs from options and state, after they were loaded.
  void finish_loading();

 protected:
  Detector() = default;
  Detector(const Detector&) = default;
  Detector& operator=(const Detector&) = default;

  /// The option `precision`, for prepare() to pack matrices with; what the fit multiplies, it does in float32.
  /// float32 for a detector that is not bound_by_products().
  kernels::Precision precision() const { return precision_; }

  /// Throws if an option that visit() shows is out of its range; for constructors.
  void check_options();

  /// For candidates, which fit and score several detectors without calling their fit() and score():
  /// what fit() checks first, and takes note of last, and what score() checks.
  void check_source(const SourceInfo& info) const;
  void set_fitted(const SourceInfo& info);
  void check_batch(const Batch& batch) const;

  /// For prepare(), as state may have been loaded: throws std::invalid_argument if `got` is not the
  /// number of entries that goes with the rest of it.
  static void require_size(const char* state, Index got, Index expected);

  /// Width of the rows that were fitted on: D, C; 0 where fitting saw no such field.
  Index fitted_dim() const { return fitted_dim_; }
  Index fitted_classes() const { return fitted_classes_; }

 private:
  /// True for a detector whose scores take as long as the products of matrices in them: it has the option
  /// `precision`, beside those that visit() shows.
  virtual bool bound_by_products() const { return false; }
  /// The reductions over `source` that find the state; nothing where there is none.
  virtual void fit_state(BatchSource& /*source*/, const Exec& /*exec*/) {}
  /// For detectors that are fitted on several splits: calls fit_state() with the one that needs()
  /// names, if not overridden.
  virtual void fit_data(const FitData& data, const Exec& exec);
  /// Derives from options and state what is not kept in files: packed matrices, offsets.
  virtual void prepare() {}
  /// Scores up to kernels::kTileRows rows on the calling thread.
  virtual void score_tile(const Batch& tile, std::span<float> out) const = 0;
  /// diagnostics() after a fit.
  virtual Diagnostics found() const { return {}; }
  void set_widths(const SourceInfo& info);
  /// What visit() shows, and `precision`.
  void show(FieldVisitor& visitor);
  void score_on_device(const Batch& batch, std::span<float> out, const Device& device) const;
  void require_device_code(const Device& device) const;

  /// The state in devices, of this detector alone: a copy makes its own.
  class OwnCopies {
   public:
    OwnCopies();
    OwnCopies(const OwnCopies&) : OwnCopies() {}
    OwnCopies& operator=(const OwnCopies&) { return *this = OwnCopies(); }
    OwnCopies(OwnCopies&&) = default;
    OwnCopies& operator=(OwnCopies&&) = default;
    kernels::DeviceCopies& get() const { return *copies_; }

   private:
    std::shared_ptr<kernels::DeviceCopies> copies_;
  };
  OwnCopies copies_;

  kernels::Precision precision_ = kernels::Precision::float32;
  Index fitted_dim_ = 0;
  Index fitted_classes_ = 0;
  bool fitted_ = false;
};

/// A new detector with these options. Throws std::invalid_argument for an unknown name, with the
/// names that there are, and for unknown or wrong options. Declared here, and not beside the list of
/// all detectors, for detectors that are made of others.
std::unique_ptr<Detector> make_detector(std::string_view name, const OptionMap& options = {});

}  // namespace ood
