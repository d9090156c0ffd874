#pragma once

#include <string>
#include <vector>

#include "ood/detector.h"
#include "ood/members.h"
#include "ood/score_combination.h"

namespace ood {

/// Several detectors combined into one score.
///
///   s(x) = rule(s_1(x), .., s_m(x))      higher = more in-distribution; ood/score_combination.h
///
/// needs  what its members need; rule = learned also the same of validation outliers
/// fit    each member on the split that it asks for; then one pass over the calibration rows, those
///        of id_val or, where there are none, of train, which the diagnostics warn of: members that
///        remember training rows score them too high
/// score  -> out [m]; unit: that of the rule (standard deviations, or a logarithm of a p-value)
/// cost   that of the members; fit holds a double for each calibration row and member
/// errors std::invalid_argument: text that names no detectors; std::domain_error: those of the
///        members, a member whose calibration scores are infinite or, for some rules, all the same
/// source The rules: ood/score_combination.h. The peers learn weights (OpenOOD: logistic regression
///        of id_val against validation outliers) or add scores up as they are (pytorch-ood).
class Fusion final : public Detector {
 public:
  struct Options {
    std::string detectors = "energy+knn";  ///< names joined by +, options in parentheses
    CombinationRule rule = CombinationRule::mean;
  };
  static constexpr std::string_view kName = "fusion";
  Fusion() : Fusion(Options()) {}
  explicit Fusion(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override;
  std::vector<Needs> needs_of_members() const override;
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Fusion>(*this); }
  bool runs_on_devices() const override { return false; }

  void visit(FieldVisitor& v) override;

 private:
  void fit_data(const FitData& data, const Exec& exec) override;
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;
  Diagnostics found() const override;

  Options options_;
  std::string made_of_;  // the text that the members were made of
  std::vector<std::string> names_;
  CombinedMembers combined_;
};

}  // namespace ood
