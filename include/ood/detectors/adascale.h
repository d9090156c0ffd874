#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "ood/detector.h"
#include "ood/linear_head.h"

namespace ood {

/// AdaSCALE: SCALE or LTS with a percentile that follows how much a perturbation of the input moved
/// the features.
///
///   s(z, f) = log sum_c exp((W z e^r + b)_c)   (variant = a)
///             log sum_c exp(r^2 f_c)           (l)            higher = more in-distribution
///   r  = sum_j max(z_j, 0) / sum of the k largest max(z_j, 0), 1 for a row of zeros
///   k  = D - round(D p / 100), ties to even, at least 1
///   p  = percentile_min + (1 - F(q)) (percentile_max - percentile_min)
///   F  = the share of the fitted rows whose q is not above
///   q  = sum of max(z'_j, 0) over the k1 % of entries where z is largest
///        + shift_weight times the sum of |z_j - z'_j| over the k2 % where z is largest
///
/// k1 % of D is rounded down, but at least 1, and so is k2 %; of equal entries the first are taken.
/// z' is a stored copy of the features (`copies/features` in a file, [K, n, D]), number `copy`: of
/// the input x + 0.5 sign(g), moved only in the 5 % of its values (of all channels) where |g| is
/// smallest; g is the gradient of the largest logit by the network's normalised input.
///
/// needs  features and copies/features in fit and in score; the head in fit (variant = a) or logits
///        in score (l)
/// fit    one pass over the ID validation set: q of every row, sorted
/// score  features, copies, logits -> out [m]; unit: logits
/// cost   score O(m C D), largest entries in O(m D) on average; state one double for each fitted
///        row and C D floats (a)
/// errors std::invalid_argument: percentile_min above percentile_max; std::domain_error: copy not below the number K
/// source Regmi, 2025, arXiv:2503.08023, as its code is: there k1 and k2 have each other's name in
///        the paper, and of more than a given number of rows F takes a random choice. OpenOOD holds
///        the same code; its percentiles (75, 85) are searched, preset imagenet-resnet50 is the
///        pair reported for ResNet-50. Finite rows where z e^r or the logits overflow float32 score
///        NaN.
class AdaScale final : public Detector {
 public:
  enum class Variant { a, l };
  struct Options {
    Variant variant = Variant::a;
    double k1 = 5, k2 = 1;                            ///< percent of D, in (0, 100]
    double shift_weight = 10;                         ///< lambda in the paper
    double percentile_min = 75, percentile_max = 85;  ///< in [0, 100]
    Index copy = 0;                                   ///< which copy is z'
  };
  static constexpr std::string_view kName = "adascale";
  AdaScale() = default;
  explicit AdaScale(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    const bool activations = options_.variant == Variant::a;
    return {.fit = {.features = true, .copy_features = true, .head = activations},
            .score = {.features = true, .logits = !activations, .copy_features = true},
            .split = Split::id_val};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<AdaScale>(*this); }
  std::vector<Preset> presets() const override {
    return {{"imagenet-resnet50",
             {{"percentile_min", 80.0}, {"percentile_max", 85.0}},
             "the percentiles reported for ResNet-50"}};
  }

  void visit(FieldVisitor& v) override;

 private:
  class Shifts;

  void fit_state(BatchSource& source, const Exec& exec) override;
  bool bound_by_products() const override { return true; }
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;
  /// q of each row; NaN for a row with NaN or infinity.
  void shifts(const Batch& tile, std::span<double> out) const;

  Options options_;
  VectorD shifts_;   // q of the fitted rows, ascending
  LinearHead head_;  // empty for variant l
};

}  // namespace ood
