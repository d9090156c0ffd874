#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/accumulators/row_bank.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Neural relation graph: how strongly a row is related to the training rows.
///
///   s(z, f) = sum over k_i > threshold of k_i^power           higher = more in-distribution
///   k_i = max(0, <z', z'_i>) <p, p_i>,   z' = z / |z|_2,   p = softmax(f)
///
/// over the bank: all training rows i, or a seeded random share of them (ood/row_sample.h).
///
/// needs  features and logits in fit and in score
/// fit    one pass: keeps z' and p of the bank
/// score  features [m, D], logits [m, C] -> out [m]; >= 0, up to the number of rows in the bank
/// cost   for a bank of N = ceil(bank_share n) rows: fit O(n (D + C)), score O(m N (C + f (D
///        + power))), where f is the share of the rows that lie among 256 of which one agrees, about
///        1 / C for confident rows; memory 2 N (D + C) floats (rows, and rows laid out for products)
/// source Kim, Yun & Song, NeurIPS 2023, with the kernel, the threshold and the power of its code
///        for outliers; OpenOOD does the same, and searches the power over 1, 2, 4, 6, 8. Both
///        products are float32; k_i^power and the sum are float64, in a fixed order, by class. Cosines
///        are not taken where <p, p_i> alone keeps k_i from reaching the threshold. A k_i within
///        rounding of the threshold, about (sqrt(D) + sqrt(C)) 2^-24, falls on either side of it:
///        such a row moves the score by threshold^power. OpenOOD divides by sqrt(|z|^2 + 1e-10). A
///        row of zeros is related to none and scores 0.
class Relation final : public Detector {
 public:
  struct Options {
    Index power = 1;          ///< in [1, 100]
    double threshold = 0.03;  ///< in [0, 1]
    double bank_share = 1;    ///< of the training rows, in (0, 1]
    Index seed = 0;           ///< of that share
  };
  static constexpr std::string_view kName = "relation";
  Relation() = default;
  explicit Relation(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {.fit = {.features = true, .logits = true}, .score = {.features = true, .logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Relation>(*this); }
  bool runs_on_devices() const override { return false; }

  void visit(FieldVisitor& v) override {
    v.option("power", options_.power, Range{.min = 1, .max = 100}.swept({1, 2, 4, 6, 8}),
             "how much more a close relation counts than a loose one");
    v.option("threshold", options_.threshold, Range{.min = 0, .max = 1},
             "relations up to this do not count");
    v.option("bank_share", options_.bank_share, Range{.min = 0, .max = 1, .open_min = true},
             "share of the training rows to compare to, drawn at random");
    v.option("seed", options_.seed, Range{.min = 0, .max = 9e15}, "of that share");
    v.state("directions", directions_);
    v.state("probabilities", probabilities_);
  }

 private:
  /// p = softmax(f) of each row; NaN for a row with NaN or infinity.
  static void softmax_rows(const MatrixView& logits, MatrixMap p) {
    Scratch scratch;
    std::pmr::vector<float> largest(static_cast<std::size_t>(logits.rows()), &scratch);
    kernels::row_max(logits, largest);
    for (Index i = 0; i < p.rows(); ++i) {
      const auto max = static_cast<double>(largest[static_cast<std::size_t>(i)]);
      double sum = 0;
      for (Index c = 0; c < p.cols(); ++c) {
        const double e = std::exp(static_cast<double>(logits(i, c)) - max);
        p(i, c) = static_cast<float>(e);
        sum += e;
      }
      for (Index c = 0; c < p.cols(); ++c)
        p(i, c) = static_cast<float>(static_cast<double>(p(i, c)) / sum);
    }
  }

  /// Turns rows into z' and p on their way to the bank.
  class Related {
   public:
    Related() = default;
    explicit Related(const RowBank& empty) : bank_(empty) {}

    Inputs inputs() const { return bank_.inputs(); }
    void add(const Batch& batch) {
      Matrix unit, p(batch.rows(), batch.logits->cols());
      kernels::normalize_rows(*batch.features, unit);
      softmax_rows(*batch.logits, {p.data(), p.rows(), p.cols()});
      Batch related = batch;
      related.features = unit;
      related.logits = p;
      bank_.add(related);
    }
    void merge(const Related& other) { bank_.merge(other.bank_); }
    RowBank take() && { return std::move(bank_); }
    void visit(FieldVisitor& v) { bank_.visit(v); }

   private:
    RowBank bank_;
  };

  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    const RowSample sample(info.rows, options_.bank_share, options_.seed);
    const Related empty(RowBank(sample, info.dim, info.classes));
    RowBank::Rows rows = reduce(source, empty, exec).take().take();
    directions_ = std::move(rows.features);
    probabilities_ = std::move(rows.logits);
  }

  void prepare() override {
    if (directions_.rows() < 1 || probabilities_.rows() != directions_.rows())
      throw std::invalid_argument("probabilities has " + std::to_string(probabilities_.rows()) +
                                  " rows, expected " + std::to_string(directions_.rows()) +
                                  " as directions has, 1 or more");
    require_size("directions, in columns", directions_.cols(), fitted_dim());
    require_size("probabilities, in columns", probabilities_.cols(), fitted_classes());
    // Of one class after the other: a row is related to few blocks then
    std::vector<Index> classes, rows(static_cast<std::size_t>(directions_.rows()));
    for (const auto p : probabilities_.rowwise()) {
      Index most = 0;
      p.maxCoeff(&most);
      classes.push_back(most);
    }
    std::iota(rows.begin(), rows.end(), 0);
    std::ranges::stable_sort(rows, {},
                             [&](Index row) { return classes[static_cast<std::size_t>(row)]; });
    const auto pack = [&](const Matrix& all, std::size_t first) {
      const std::size_t count = std::min(kBlockRows, rows.size() - first);
      Matrix block(static_cast<Index>(count), all.cols());
      for (std::size_t j = 0; j < count; ++j)
        block.row(static_cast<Index>(j)) = all.row(rows[first + j]);
      return kernels::PackedMatrix(block);
    };
    blocks_.clear();
    for (std::size_t first = 0; first < rows.size(); first += kBlockRows)
      blocks_.push_back({pack(directions_, first), pack(probabilities_, first)});
    // A cosine as computed is no more: |z'| is off by (D + 8) u at most, the product by D u
    const double error = 4 * 0x1p-24 * static_cast<double>(directions_.cols() + 16);
    largest_cosine_ = (1 + error) * directions_.cast<double>().rowwise().norm().maxCoeff();
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const MatrixMap unit = scratch.matrix(tile.rows(), tile.features->cols());
    const MatrixMap p = scratch.matrix(tile.rows(), tile.logits->cols());
    const auto width = static_cast<Index>(kBlockRows);
    float* const all_agreement = scratch.matrix(tile.rows(), width).data();
    float* const all_cosines = scratch.matrix(tile.rows(), width).data();
    const MatrixMap chosen = scratch.matrix(tile.rows(), unit.cols());
    std::pmr::vector<float> most(out.size(), &scratch);
    kernels::normalize_rows(*tile.features, unit);
    softmax_rows(*tile.logits, p);
    std::array<double, kernels::kTileRows> sums = {};
    std::array<Index, kernels::kTileRows> related = {};
    for (const Block& block : blocks_) {
      const Index rows = block.probabilities.rows();
      const MatrixMap agreement(all_agreement, tile.rows(), rows);
      kernels::matmul_nt(p, block.probabilities, agreement);
      kernels::row_max(agreement, most);
      Index count = 0;
      for (Index i = 0; i < tile.rows(); ++i) {
        const auto agrees = static_cast<double>(most[static_cast<std::size_t>(i)]);
        if (!(largest_cosine_ * agrees > options_.threshold)) continue;
        MatrixMap(chosen).row(count) = unit.row(i);
        related[static_cast<std::size_t>(count++)] = i;
      }
      if (count == 0) continue;
      const MatrixMap cosines(all_cosines, count, rows);
      kernels::matmul_nt(MatrixView(chosen).middle_rows(0, count), block.directions, cosines);
      for (Index c = 0; c < count; ++c) {
        const Index i = related[static_cast<std::size_t>(c)];
        sums[static_cast<std::size_t>(i)] +=
            sum_of_relations(MatrixView(cosines).row_data(c), MatrixView(agreement).row_data(i),
                             static_cast<std::size_t>(rows));
      }
    }
    for (Index i = 0; i < unit.rows(); ++i) {
      // What is not a number is so in a whole row, and no relation is above the threshold then
      const bool valid = !std::isnan(unit(i, 0)) && !std::isnan(p(i, 0));
      const auto place = static_cast<std::size_t>(i);
      out[place] =
          valid ? static_cast<float>(sums[place]) : std::numeric_limits<float>::quiet_NaN();
    }
  }

  /// Over up to kBlockRows rows, in four sums of every fourth row.
  double sum_of_relations(const float* cosines, const float* agreement, std::size_t n) const {
    std::array<double, kBlockRows> relations, powers;
    for (std::size_t j = 0; j < n; ++j) {
      const double k =
          static_cast<double>(std::max(cosines[j], 0.0f)) * static_cast<double>(agreement[j]);
      relations[j] = k > options_.threshold ? k : 0.0;
      powers[j] = relations[j];
    }
    for (Index factor = 1; factor < options_.power; ++factor)
      for (std::size_t j = 0; j < n; ++j) powers[j] *= relations[j];
    std::array<double, 4> sums = {};
    std::fill(powers.begin() + static_cast<std::ptrdiff_t>(n), powers.end(), 0.0);
    for (std::size_t j = 0; j < n; j += sums.size())
      for (std::size_t lane = 0; lane < sums.size(); ++lane) sums[lane] += powers[j + lane];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  Options options_;
  Matrix directions_;     // z' [N, D]
  Matrix probabilities_;  // p [N, C]
  // derived
  static constexpr std::size_t kBlockRows = 256;
  struct Block {
    kernels::PackedMatrix directions, probabilities;
  };
  std::vector<Block> blocks_;  // the rows by their most probable class
  double largest_cosine_ = 0;
};

}  // namespace ood
