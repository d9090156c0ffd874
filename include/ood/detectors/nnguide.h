#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/row_bank.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/neighbour_search.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Nearest neighbour guidance: the energy, times the likeness to confident training rows.
///
///   s(z, f) = LSE(f) 1/k sum of the k largest <z', g_i>       higher = more in-distribution
///   g_i = LSE(f_i) z'_i   (confidence_weighted)   or   g_i = z'_i   (unweighted)
///   LSE(f) = log sum_c exp(f_c),   z' = z / |z|_2
///
/// over the bank: all training rows i, or a seeded random share of them (ood/row_sample.h).
///
/// needs  features [n, D] and logits [n, C] (not if unweighted) in fit, both in score; a bank of k
///        rows or more
/// fit    one pass: keeps the g_i of the bank
/// score  features [m, D], logits [m, C] -> out [m]; unit: squared logits (logits, if unweighted)
/// cost   for a bank of N = ceil(bank_share n) rows: fit O(n (D + C)), score O(m (N D + C)); memory
///        4 N D bytes for the rows and 2 N D (bfloat16) or 4 N D (float32) for what they are found
///        by
/// errors std::domain_error: k above the number of rows in the bank
/// source Park, Jung & Teoh, ICCV 2023, arXiv:2309.14888, with the energy as the base score and its
///        code's k. A negative LSE is taken as it is, as there. The published detector expects rows
///        at unit length already. Presets: openood takes k = 100 and 1 % of the rows, but the
///        first ones as they are stored, rounded up to whole batches, where here they are drawn at
///        random; pytorch_ood divides LSE(f_i) by their mean and compares by cosine, in which the
///        (positive) weights cancel. The k products are the largest of a loop over the bank in
///        float32; others only rule rows out (ood/neighbour_search.h). A row of zeros stays zero and
///        scores 0.
class NnGuide final : public Detector {
 public:
  enum class Bank { confidence_weighted, unweighted };
  static constexpr std::array<std::string_view, 2> kBanks = {"confidence_weighted", "unweighted"};
  struct Options {
    Index k = 10;
    Bank bank = Bank::confidence_weighted;
    double bank_share = 1;  ///< of the training rows, in (0, 1]
    Index seed = 0;         ///< of that share
  };
  static constexpr std::string_view kName = "nnguide";
  NnGuide() = default;
  explicit NnGuide(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = weighted()},
            .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<NnGuide>(*this); }
  std::vector<Preset> presets() const override {
    return {{"openood",
             {{"k", Index{100}}, {"bank_share", 0.01}},
             "OpenOOD's defaults, with a random share of the rows"},
            {"pytorch_ood",
             {{"k", Index{10}}, {"bank", std::string("unweighted")}},
             "pytorch-ood's formula: cosines"}};
  }

  void visit(FieldVisitor& v) override {
    v.option("k", options_.k, Range::at_least(1), "how many of the most alike rows guide");
    v.option("bank", options_.bank, kBanks, "whether training rows weigh as their energy");
    v.option("bank_share", options_.bank_share, Range{.min = 0, .max = 1, .open_min = true},
             "share of the training rows to compare to, drawn at random");
    v.option("seed", options_.seed, Range{.min = 0, .max = 9e15}, "of that share");
    v.state("bank", bank_);
  }

 private:
  bool weighted() const { return options_.bank == Bank::confidence_weighted; }

  /// Turns rows into g_i on their way to the bank.
  class Guides {
   public:
    Guides() = default;
    Guides(const RowBank& empty, bool weighted) : bank_(empty), weighted_(weighted) {}

    Inputs inputs() const { return {.features = true, .logits = weighted_ != 0}; }

    void add(const Batch& batch) {
      Matrix rows;
      kernels::normalize_rows(*batch.features, rows);
      if (weighted_ != 0) {
        std::vector<float> energies(static_cast<std::size_t>(rows.rows()));
        kernels::row_log_sum_exp(*batch.logits, 1.0f, energies);
        for (Index i = 0; i < rows.rows(); ++i)
          rows.row(i) *= energies[static_cast<std::size_t>(i)];
      }
      Batch guides = batch;
      guides.features = rows;
      bank_.add(guides);
    }
    void merge(const Guides& other) { bank_.merge(other.bank_); }
    RowBank take() && { return std::move(bank_); }
    void visit(FieldVisitor& v) {
      v.state("weighted", weighted_);
      bank_.visit(v);
    }

   private:
    RowBank bank_;
    Index weighted_ = 1;  // 0 or 1; there is no state of bool
  };

  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const RowSample sample(info.rows, options_.bank_share, options_.seed);
    sample.require_neighbours(options_.k, info.name);
    const Guides empty(RowBank(sample, info.dim), weighted());
    bank_ = reduce(source, empty, exec).take().take().features;
  }

  void prepare() override {
    if (bank_.rows() < options_.k)
      throw std::invalid_argument("bank has " + std::to_string(bank_.rows()) +
                                  " rows, expected k = " + std::to_string(options_.k) + " or more");
    search_ = NeighbourSearch(bank_, NeighbourSearch::Likeness::product);
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const MatrixMap unit = scratch.matrix(tile.rows(), tile.features->cols());
    kernels::normalize_rows(*tile.features, unit);
    kernels::row_log_sum_exp(*tile.logits, 1.0f, out);
    const auto found = scratch.span<NeighbourSearch::Neighbour>(std::ssize(out) * options_.k);
    search_.find(unit, bank_, options_.k, found);
    const std::span<float> likeness = scratch.span<float>(std::ssize(out));
    mean_values(found, options_.k, likeness);
    kernels::multiply(out, likeness, 1, out);
  }

  Options options_;
  Matrix bank_;  // g [N, D]
  // derived
  NeighbourSearch search_;
};

}  // namespace ood
