#pragma once

#include <array>
#include <vector>

#include "ood/detector.h"
#include "ood/weibull_tail.h"

namespace ood {

/// OpenMax: the log odds of the known classes against an unknown one that takes over what the
/// largest logits lose, by how unusually far the row is from the means of their classes.
///
///   s(f)  = log sum_c exp(f_c (1 - w_c)) - sum_c f_c w_c      higher = more in-distribution
///   w_c   = (a + 1 - i) / a F_c(|f - m_c|_2) for the i-th largest logit, i = 1 .. a; 0 for others
///   m_c   = mean logits of the training rows with y = c = argmax f, or with y = c (rows = labelled)
///   F_c   = Weibull distribution of the `tail` largest |f - m_c|_2 of those rows; a = min(alpha, C)
///
/// needs  logits [n, C] and labels [n] in fit, logits in score
/// fit    two passes: class means in float64; the largest distances of each class, then a Weibull
///        distribution of greatest likelihood for each (ood/weibull_tail.h)
/// score  logits [m, C] -> out [m]; unit: nats; does not saturate. Distances and weights in
///        float64, the sum of exponentials in float32 (kernels::row_log_sum_exp)
/// cost   fit O(n C), score O(m (alpha C)); state C^2 + 3 C doubles, in fit C (C +
///        tail) doubles more for each thread
/// errors std::domain_error: a class with less such rows than `tail`, or whose `tail` largest
///        distances are all the same
/// source Bendale & Boult, CVPR 2016, arXiv:1511.06233, with tail 20 and alpha 10 as on ImageNet.
///        There s is softmax(f', f'_0), which gives P(unknown) = 1 / (1 + exp(s)): the same order,
///        but it saturates. w_c follows the authors' code: algorithm 2 as printed has other weights
///        and another sign in its exponent. The code's distance is |f - m|_2 / 200 plus a cosine
///        distance by default; here, as in OpenOOD and pytorch-ood, the Euclidean one. One row of
///        logits for each sample, not ten crops. Preset openood: alpha = 3; there the softmax is
///        not shifted by its largest term and may overflow. Preset pytorch_ood: tail = 25, all rows
///        of a label. Logits that tie are ranked by class. A logit below 0 takes from the unknown
///        class what it loses, as in all of them.
class OpenMax final : public Detector {
 public:
  enum class Rows { correct, labelled };
  static constexpr std::array<std::string_view, 2> kRows = {"correct", "labelled"};

  struct Options {
    Index tail = 20;   ///< distances of each class that F_c is fitted to
    Index alpha = 10;  ///< how many of the largest logits are revised
    Rows rows = Rows::correct;
  };
  static constexpr std::string_view kName = "openmax";
  OpenMax() = default;
  explicit OpenMax(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.logits = true, .labels = true}, .score = {.logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<OpenMax>(*this); }
  std::vector<Preset> presets() const override {
    using namespace std::string_literals;
    return {{"openood", {{"alpha", Index{3}}}, "as OpenOOD has it"},
            {"pytorch_ood", {{"tail", Index{25}}, {"rows", "labelled"s}}, "as pytorch-ood has it"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("tail", options_.tail, Range::at_least(2).swept({20, 25}),
             "how many distances make a tail");
    v.option("alpha", options_.alpha, Range::at_least(1).swept({3, 10}),
             "how many logits are revised");
    v.option("rows", options_.rows, kRows, "training rows: those predicted right, or all");
    v.state("means", means_);
    v.state("smallest", smallest_);
    v.state("shapes", shapes_);
    v.state("log_scales", log_scales_);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override;
  void prepare() override;
  void score_tile(const Batch& tile, std::span<float> out) const override;

  Options options_;
  MatrixD means_;                           // m_c, [C, C]
  VectorD smallest_, shapes_, log_scales_;  // of the tails, [C]
};

}  // namespace ood
