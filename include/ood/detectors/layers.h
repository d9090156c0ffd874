#pragma once

#include <string>
#include <vector>

#include "ood/detector.h"
#include "ood/members.h"
#include "ood/score_combination.h"

namespace ood {

/// A feature detector on each of several layers, combined into one score.
///
///   s(x) = rule(s_1(z_1), .., s_m(z_m)),  z_l the features of layer l
///                                        higher = more in-distribution; ood/score_combination.h
///
/// needs  layers {name: [n, D_l]}, and what the detector needs beside features (labels, logits);
///        rule = learned, or a detector that is fitted on them: layers of validation outliers too
/// fit    the detector once for each layer, with its passes; then one pass over the calibration
///        rows, see Fusion
/// score  layers -> out [m]; unit: that of the rule
/// cost   that of the detector on each layer; each pass reads all layers; fit holds a double for
///        each calibration row and layer
/// errors std::invalid_argument: a layer that is not there, text that names no detector, a detector
///        that does not read features or needs the head (which is that of the last layer);
///        std::domain_error: as in Fusion
/// source The rules: ood/score_combination.h. With `mahalanobis` the multi-layer detector of Lee et
///        al., NeurIPS 2018, arXiv:1807.03888, without its input perturbation: there weights are
///        learned on outliers (rule = learned); OpenOOD's default takes the first layer alone;
///        pytorch-ood adds the layers up as they are; oodeel averages scores over their standard
///        deviation (mean, without subtracting a constant) or takes Fisher and Brown.
class Layers final : public Detector {
 public:
  struct Options {
    std::string detector = "mahalanobis";  ///< a name, options in parentheses
    std::string layers{};                  ///< names joined by commas; empty: all
    CombinationRule rule = CombinationRule::mean;
  };
  static constexpr std::string_view kName = "layers";
  Layers() : Layers(Options()) {}
  explicit Layers(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override;
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Layers>(*this); }
  bool runs_on_devices() const override { return false; }

  void visit(FieldVisitor& v) override;

 private:
  void fit_data(const FitData& data, const Exec& exec) override;
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;
  Diagnostics found() const override;
  /// The batch with one layer as its features.
  Batch layer_of(const Batch& batch, std::size_t layer) const;

  Options options_;
  Member prototype_{"mahalanobis"};
  std::string made_of_ = "mahalanobis";  // the text that the prototype was made of
  std::string fitted_layers_;            // names joined by commas
  std::vector<std::string> names_;       // the same
  std::vector<Index> widths_;            // D_l
  CombinedMembers combined_;
};

}  // namespace ood
