#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/class_softmax.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/margins.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Divergence from the nearest of the typical softmax vectors of the classes.
///
///   s(f) = -min_c KL(p, d_c),   p = softmax(f)                higher = more in-distribution
///   s(f) = -KL(p, d_c) with c = argmax f                      match = predicted
///   d_c  = mean of p_i over the rows i with argmax f_i = c, or with y_i = c (templates = label)
///   KL(p, d) = sum_j p_j (log p_j - log d_j)
///
/// A class that no row was predicted as has no template and is not compared with.
///
/// needs  logits [n, C] of id_val in fit, and labels [n] for templates = label; logits in score
/// fit    one pass: log d_c in float64, in the log domain, so that no d_cj is 0
/// score  logits [m, C] -> out [m]; unit: nats, <= 0. p log d_c in float32 for all c; the nearest
///        class, and all within the rounding error of it, once more in float64: error
///        <= 2^-53 (C + 8) sum_j p_j (|log p_j| + |log d_j|), then that of a float32
/// cost   fit O(n C), score O(m C^2); state C^2 doubles and C^2 floats, in fit 2 C^2 doubles for
///        each thread
/// errors std::domain_error: a class without rows, for templates = label and for match = predicted
/// source Hendrycks et al., ICML 2022, arXiv:1911.11132: templates of predicted classes, without
///        labels, and the least divergence. OpenOOD does that too; where a class is not predicted,
///        its one-hot vector is infinitely far from all p: the same. pytorch-ood takes templates of
///        the labels and compares with that of the predicted class alone (preset `pytorch_ood`).
class KlMatching final : public Detector {
 public:
  enum class TemplatesOf { predicted, label };
  static constexpr std::array<std::string_view, 2> kTemplatesOf = {"predicted", "label"};
  enum class Match { all, predicted };
  static constexpr std::array<std::string_view, 2> kMatches = {"all", "predicted"};

  struct Options {
    TemplatesOf templates = TemplatesOf::predicted;
    Match match = Match::all;
  };
  static constexpr std::string_view kName = "kl_matching";
  KlMatching() = default;
  explicit KlMatching(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.logits = true, .labels = by_label()},
            .score = {.logits = true},
            .split = Split::id_val};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<KlMatching>(*this); }
  std::vector<Preset> presets() const override {
    using namespace std::string_literals;
    return {{"pytorch_ood",
             {{"templates", "label"s}, {"match", "predicted"s}},
             "templates of the labels, that of the predicted class"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("templates", options_.templates, kTemplatesOf, "which rows make the template of c");
    v.option("match", options_.match, kMatches, "which templates a row is compared with");
    v.state("class_rows", class_rows_);
    v.state("log_templates", log_templates_);
  }

 private:
  bool by_label() const { return options_.templates == TemplatesOf::label; }

  void fit_state(BatchSource& source, const Exec& exec) override {
    const ClassSoftmax softmax =
        reduce(source, ClassSoftmax(source.info().classes, by_label()), exec);
    class_rows_ = softmax.counts();
    if (by_label() || options_.match == Match::predicted)
      for (std::size_t c = 0; c < class_rows_.size(); ++c)
        if (class_rows_[c] == 0)
          throw std::domain_error("class " + std::to_string(c) + " has 0 rows " +
                                  (by_label() ? "of its label" : "predicted as it") +
                                  ", expected 1 or more");
    log_templates_ = softmax.log_means();
  }

  void prepare() override {
    require_size("class_rows", std::ssize(class_rows_), fitted_classes());
    require_size("log_templates, in columns", log_templates_.cols(), fitted_classes());
    present_.clear();
    for (std::size_t c = 0; c < class_rows_.size(); ++c)
      if (class_rows_[c] > 0) present_.push_back(static_cast<Index>(c));
    if (present_.empty() || std::ssize(class_rows_) != log_templates_.rows())
      throw std::invalid_argument("log_templates has " + std::to_string(log_templates_.rows()) +
                                  " rows, expected those of " + std::to_string(class_rows_.size()) +
                                  " classes, 1 or more with rows");
    Matrix rows(std::ssize(present_), log_templates_.cols());
    for (Index t = 0; t < rows.rows(); ++t)
      rows.row(t) = log_templates_.row(present_[static_cast<std::size_t>(t)]).cast<float>();
    packed_ = kernels::PackedMatrix(rows);
    // of a product with p, |p| <= 1: float32 sums, and the rounding of its factors
    const double longest = rows.cast<double>().rowwise().norm().maxCoeff();
    slack_ = 2 * 0x1p-24 * static_cast<double>(rows.cols() + 4) * longest;
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const Index n = tile.rows(), classes = tile.logits->cols();
    const bool all = options_.match == Match::all;
    const MatrixDMap log_p = scratch.matrix_d(n, classes), p = scratch.matrix_d(n, classes);
    const MatrixMap rounded = scratch.matrix(n, classes);
    const MatrixMap dots = scratch.matrix(n, all ? packed_.rows() : 0);
    const std::span<Index> predicted = scratch.span<Index>(n);
    kernels::row_argmax(*tile.logits, predicted);
    kernels::row_log_softmax(*tile.logits, log_p, p, rounded);
    if (all) kernels::matmul_nt(rounded, packed_, dots);
    // min_c KL(p, d_c) over the classes whose <p, log d_c> may be the largest
    kernels::row_least_divergence(log_p, p, dots, slack_, present_, predicted, log_templates_, out);
  }

  Options options_;
  std::vector<Index> class_rows_;
  MatrixD log_templates_;  // log d_c, [C, C]; rows of 0 for classes without a template
  // derived
  std::vector<Index> present_;    // the classes with a template
  kernels::PackedMatrix packed_;  // their log d_c
  double slack_ = 0;              // how far below the largest product the nearest class may be
};

}  // namespace ood
