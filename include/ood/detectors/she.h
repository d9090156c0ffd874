#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/class_means.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Simplified Hopfield energy: the likeness to the pattern of the predicted class.
///
///   s(z, f) = <z, S_c>   (inner_product),   -|z - S_c|_2   (euclidean)   or
///             <z, S_c> / (|z|_2 |S_c|_2)   (cosine),   c = argmax_c f_c
///   S_c = mean of the training rows of class c with argmax f_i = c
///                                                             higher = more in-distribution
///
/// Of equal logits the first counts. With cosine, a row or a pattern of zeros scores 0.
///
/// needs  features [n, D], logits [n, C] and labels [n] in [0, C) in fit, features and logits in
///        score; a correctly classified row of each class
/// fit    one pass: class means in float64
/// score  features [m, D], logits [m, C] -> out [m]; unit: squared features (inner_product),
///        Euclidean distance, negated (euclidean), or in [-1, 1] (cosine)
/// cost   fit O(n (D + C)), score O(m (D + C)); state C D floats, in fit C D doubles for each
///        thread
/// errors std::domain_error: a class without correctly classified rows
/// source Zhang et al., ICLR 2023, with the inner product; OpenOOD offers the other two. For such a
///        class OpenOOD scores NaN. oodeel takes the largest product over all classes instead of
///        that of the predicted one, over D. Finite rows whose products overflow float32 do not
///        score a finite number.
class She final : public Detector {
 public:
  enum class Metric { inner_product, euclidean, cosine };
  static constexpr std::array<std::string_view, 3> kMetrics = {"inner_product", "euclidean",
                                                               "cosine"};
  struct Options {
    Metric metric = Metric::inner_product;
  };
  static constexpr std::string_view kName = "she";
  She() = default;
  explicit She(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = true, .labels = true},
            .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<She>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("metric", options_.metric, kMetrics, "how a row is compared to the pattern");
    v.state("patterns", patterns_);
    v.state("correct_rows", correct_rows_);
  }

 private:
  /// Hands the correctly classified rows on.
  class CorrectMeans {
   public:
    CorrectMeans() = default;
    CorrectMeans(Index classes, Index dim) : means_(classes, dim) {}

    Inputs inputs() const { return {.features = true, .logits = true, .labels = true}; }

    void add(const Batch& batch) {
      std::vector<Index> predicted(static_cast<std::size_t>(batch.rows()));
      kernels::row_argmax(*batch.logits, predicted);
      for (std::size_t i = 0; i < predicted.size(); ++i)
        if (predicted[i] == (*batch.labels)[i]) {
          Batch row;
          row.features = batch.features->middle_rows(static_cast<Index>(i), 1);
          row.labels = batch.labels->subspan(i, 1);
          means_.add(row);
        }
    }
    void merge(const CorrectMeans& other) { means_.merge(other.means_); }
    void visit(FieldVisitor& v) { means_.visit(v); }

    const std::vector<Index>& counts() const { return means_.counts(); }
    /// Throws std::domain_error if a class has no rows.
    MatrixD means() const {
      for (std::size_t c = 0; c < counts().size(); ++c)
        if (counts()[c] == 0)
          throw std::domain_error("class " + std::to_string(c) +
                                  " has 0 correctly classified rows, expected 1 or more");
      return means_.means();
    }

   private:
    ClassMeans means_;
  };

  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const CorrectMeans found = reduce(source, CorrectMeans(info.classes, info.dim), exec);
    MatrixD means = found.means();
    if (options_.metric == Metric::cosine)
      for (auto row : means.rowwise()) row.normalize();  // a row of zeros stays zero
    patterns_ = means.cast<float>();
    correct_rows_ = found.counts();
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::span<Index> predicted = scratch.span<Index>(tile.rows());
    kernels::row_argmax(*tile.logits, predicted);
    if (options_.metric == Metric::euclidean) {
      kernels::row_squared_distance_selected(*tile.features, patterns_, predicted, out);
      return kernels::negate_root(out);
    }
    MatrixView z = *tile.features;
    if (options_.metric == Metric::cosine) {
      const MatrixMap unit = scratch.matrix(z.rows(), z.cols());
      kernels::normalize_rows(z, unit);
      z = unit;
    }
    kernels::row_dot_selected(z, patterns_, predicted, out);
  }
  Diagnostics found() const override {
    return {.values = {},
            .per_class = {{"correct_rows", {correct_rows_.begin(), correct_rows_.end()}}},
            .warnings = {}};
  }

  Options options_;
  Matrix patterns_;  // S [C, D], at unit length for cosine
  std::vector<Index> correct_rows_;
};

}  // namespace ood
