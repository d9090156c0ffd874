#pragma once

#include <array>
#include <stdexcept>
#include <string>

#include "ood/accumulators/normalized.h"
#include "ood/accumulators/row_bank.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/neighbour_search.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Distance to the k-th nearest training row, or the mean of the k smallest distances.
///
///   s(z) = -|z' - z'_(k)|_2   (kth)   or   -1/k sum_{j <= k} |z' - z'_(j)|_2   (mean)
///   z' = z / |z|_2   (normalize)   or   z' = z                higher = more in-distribution
///
/// over the bank: all training rows, or a seeded random share of them (ood/row_sample.h).
///
/// needs  features [n, D] in fit and in score; a bank of k rows or more
/// fit    keeps the rows of the bank (normalised)
/// score  features [m, D] -> out [m]; unit: Euclidean distance, negated
/// cost   for a bank of N = ceil(bank_share n) rows: fit O(n D), score O(m N D); memory 4 N D bytes
///        for the rows and 2 N D (bfloat16) or 4 N D (float32) for what they are found by
/// errors std::domain_error: k above the number of rows in the bank
/// source Sun et al., ICML 2022, arXiv:2204.06507, algorithm 1: the k-th distance to all rows or a
///        random share. The plain distance, where OpenOOD returns the squared one (the same order);
///        its k = 50 is the default. Mean: what detectors offers beside the k-th. Preset
///        pytorch_ood: nearest row, lengths kept. Exact: the distances are those of a loop over the bank
///        in float32, by differences; products of lower precision only rule rows out, within a
///        proven bound (ood/neighbour_search.h). A row of zeros stays zero. A training row that is
///        scored is its own first neighbour. A k-th distance whose square overflows float32 scores
///        NaN.
class Knn final : public Detector {
 public:
  enum class Aggregate { kth, mean };
  static constexpr std::array<std::string_view, 2> kAggregates = {"kth", "mean"};
  struct Options {
    Index k = 50;  ///< 1 or more; the paper: 50 on CIFAR-10, 200 on CIFAR-100, 1000 on ImageNet
    bool normalize = true;  ///< scale rows to unit l2 norm
    Aggregate aggregate = Aggregate::kth;
    double bank_share = 1;  ///< of the training rows, in (0, 1]
    Index seed = 0;         ///< of that share
  };
  static constexpr std::string_view kName = "knn";
  Knn() = default;
  explicit Knn(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {.features = true}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Knn>(*this); }

  std::vector<Preset> presets() const override {
    return {{"pytorch_ood", {{"k", Index{1}}, {"normalize", false}}, "pytorch-ood's defaults"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("k", options_.k, Range::at_least(1).swept({50, 100, 200, 500, 1000}),
             "which neighbour; 50 in the paper for CIFAR-10");
    v.option("normalize", options_.normalize, "scale rows to unit l2 norm first");
    v.option("aggregate", options_.aggregate, kAggregates,
             "the k-th distance, or the mean of the k smallest");
    v.option("bank_share", options_.bank_share, Range{.min = 0, .max = 1, .open_min = true},
             "share of the training rows to compare to, drawn at random");
    v.option("seed", options_.seed, Range{.min = 0, .max = 9e15}, "of that share");
    v.state("bank", bank_);
  }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const RowSample sample(info.rows, options_.bank_share, options_.seed);
    sample.require_neighbours(options_.k, info.name);
    const Normalized empty(RowBank(sample, info.dim), options_.normalize);
    bank_ = reduce(source, empty, exec).take().take().features;
  }

  void prepare() override {
    if (bank_.rows() < options_.k)
      throw std::invalid_argument("bank has " + std::to_string(bank_.rows()) +
                                  " rows, expected k = " + std::to_string(options_.k) + " or more");
    search_ = NeighbourSearch(bank_, NeighbourSearch::Likeness::distance);
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    MatrixView z = *tile.features;
    if (options_.normalize) {
      const MatrixMap unit = scratch.matrix(z.rows(), z.cols());
      kernels::normalize_rows(z, unit);
      z = unit;
    }
    const auto found = scratch.span<NeighbourSearch::Neighbour>(std::ssize(out) * options_.k);
    search_.find(z, bank_, options_.k, found);
    if (options_.aggregate == Aggregate::kth)
      kth_distances(found, options_.k, out);
    else
      mean_distances(found, options_.k, out);
    kernels::scale(out, -1);
  }

  Options options_;
  Matrix bank_;  // [N, D]
  // derived
  NeighbourSearch search_;
};

}  // namespace ood
