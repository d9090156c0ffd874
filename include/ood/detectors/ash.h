#pragma once

#include <array>
#include <span>
#include <string_view>

#include "ood/activation_shaping.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/linear_head.h"
#include "ood/scratch.h"

namespace ood {

/// Activation shaping (ASH): the energy of a row's largest features alone.
///
///   s(z) = log sum_c exp((W z' + b)_c)                        higher = more in-distribution
///   z'_j = z_j             (variant = p)
///          s1 / k          (b)
///          z_j exp(s1/s2)  (s)      for the k largest entries of z, and 0 for the others
///   k    = D - round(D percentile / 100), ties to even, at least 1
///   s1   = sum_j z_j, s2 the sum of the k largest; s1 / s2 = 1 for a row of zeros
///
/// Of equal entries the first are taken.
///
/// needs  the head W [C, D], b [C] in fit, features [m, D] >= 0 in score
/// fit    nothing but the head
/// score  features [m, D] -> out [m]; unit: logits
/// cost   score O(m C D), the k largest in O(m D); state C D floats
/// errors std::domain_error, in score: a negative entry, where s2 may be near 0 or below and its
///        exponential means nothing. The way out: `relu` = true
/// source Djurisic, Bozanic, Ashok & Liu, ICLR 2023, arXiv:2209.09858. The paper shapes what leaves
///        the last pooling, as here, and chooses variant and percentile by architecture. OpenOOD
///        has variant b at 90 (preset openood) and tries 65 to 95; pytorch-ood s at 65 (preset
///        pytorch_ood), in its examples on feature maps, which is another method; oodeel keeps
///        what is strictly above a quantile. None of them checks the sign. exp(s1 / s2) is taken
///        in float64 and is at most exp(D / k); finite rows where z' or the logits overflow
///        float32 (3.4e38) score NaN.
class Ash final : public Detector {
 public:
  enum class Variant { p, b, s };
  struct Options {
    Variant variant = Variant::s;
    double percentile = 90;  ///< of the entries of a row that are dropped, in [0, 100]
    bool relu = false;       ///< negative entries count as 0
  };
  static constexpr std::string_view kName = "ash";
  Ash() = default;
  explicit Ash(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {.head = true}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Ash>(*this); }
  std::vector<Preset> presets() const override {
    return {{"openood", {{"variant", "b"}, {"percentile", 90.0}}, "as OpenOOD"},
            {"pytorch_ood", {{"variant", "s"}, {"percentile", 65.0}}, "as pytorch-ood"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("variant", options_.variant, kVariantNames,
             "what the largest entries become: as they are, their share of the sum, or scaled");
    v.option("percentile", options_.percentile,
             Range{.min = 0, .max = 100}.swept({65, 70, 75, 80, 85, 90, 95}),
             "of the entries of a row that are dropped");
    v.option("relu", options_.relu, "take negative entries for 0, which else are an error");
    head_.visit(v);
  }

 private:
  static constexpr std::array<std::string_view, 3> kVariantNames = {"p", "b", "s"};

  void fit_state(BatchSource& source, const Exec&) override { head_.fit(*source.head()); }
  bool bound_by_products() const override { return true; }
  void prepare() override { head_.prepare(precision()); }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixMap z = scratch.matrix(tile.rows(), tile.features->cols());
    MatrixMap logits = scratch.matrix(z.rows(), head_.classes());
    non_negative_rows(tile, options_.relu, z);
    const Index k = kept_entries(z.cols(), options_.percentile);
    if (options_.variant == Variant::b) {
      share_among_largest(z, k, z);
    } else {
      std::span<double> ratios;
      if (options_.variant == Variant::s) {
        ratios = scratch.span<double>(z.rows());
        row_sum_ratios(z, k, ratios);
      }
      keep_largest(z, k, ratios, z);
    }
    head_.logits(z, logits);
    kernels::row_log_sum_exp(logits, 1.0f, out);
  }

  Options options_;
  LinearHead head_;
};

}  // namespace ood
