#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "ood/accumulators/row_bank.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/reduce.h"

namespace ood {

/// Distance to the k-th nearest training row.
///
///   s(z) = -|z' - z'_(k)|_2,   z' = z / |z|_2 (normalize) or z' = z
///                                                             higher = more in-distribution
///
/// needs  features [n, D] in fit and in score; n >= k
/// fit    keeps all rows (normalised)
/// score  features [m, D] -> out [m]; unit: Euclidean distance, negated
/// cost   fit O(n D), score O(m n D); memory 2 n D floats (rows, and rows laid out for products)
/// errors std::domain_error: k above the number of training rows
/// source Sun et al., ICML 2022, arXiv:2204.06507, algorithm 1. The plain distance, where OpenOOD
///        returns the squared one (the same order). Exact: <z', b> - |b|^2 / 2 in float32 chooses
///        the k rows and all within its rounding error of them (up to 4,096 more), whose distances
///        are then taken by differences. A row of zeros stays zero. A training row that is scored
///        is its own first neighbour. Finite rows whose products overflow float32 score NaN.
class Knn final : public Detector {
 public:
  struct Options {
    Index k = 50;  ///< 1 or more; the paper: 50 on CIFAR-10, 200 on CIFAR-100, 1000 on ImageNet
    bool normalize = true;  ///< scale rows to unit l2 norm
  };
  static constexpr std::string_view kName = "knn";
  Knn() = default;
  explicit Knn(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override { return {.fit = {.features = true}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Knn>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("k", options_.k, Range::at_least(1), "which neighbour; 50 in the paper for CIFAR-10");
    v.option("normalize", options_.normalize, "scale rows to unit l2 norm first");
    v.state("bank", bank_);
  }

 private:
  static constexpr Index kBankRows = 1024;  // rows in one product with a tile

  void fit_state(BatchSource& source, const Exec& exec) override {
    const SourceInfo& info = source.info();
    if (info.rows < options_.k)
      throw std::domain_error(info.name + " has " + std::to_string(info.rows) +
                              " rows, expected k = " + std::to_string(options_.k) + " or more");
    bank_ = reduce(source, RowBank(info.rows, info.dim), exec).take();
    if (options_.normalize) normalize_rows(bank_);
  }

  void prepare() override {
    if (bank_.rows() < options_.k)
      throw std::invalid_argument("bank has " + std::to_string(bank_.rows()) +
                                  " rows, expected k = " + std::to_string(options_.k) + " or more");
    blocks_.clear();
    largest_norm_ = bank_.rowwise().norm().maxCoeff();
    for (Index first = 0; first < bank_.rows(); first += kBankRows) {
      const Index count = std::min(kBankRows, bank_.rows() - first);
      const MatrixView rows = MatrixView(bank_).middle_rows(first, count);
      Block block{first, kernels::PackedMatrix(rows),
                  std::vector<float>(static_cast<std::size_t>(count))};
      for (Index i = 0; i < count; ++i)
        block.half_norms[static_cast<std::size_t>(i)] =
            static_cast<float>(0.5 * rows.row(i).cast<double>().squaredNorm());
      blocks_.push_back(std::move(block));
    }
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    thread_local Matrix z, dots;
    z = *tile.features;
    if (options_.normalize) normalize_rows(z);
    thread_local std::vector<float> slack;
    slack.resize(out.size());
    // u = 2^-24: float32 sums of D products are off by less than 8 sqrt(D) u |z| |b|, almost surely
    const float error = 8 * std::sqrt(static_cast<float>(z.cols())) * 0x1p-24f;
    for (Index i = 0; i < z.rows(); ++i)
      slack[static_cast<std::size_t>(i)] =
          error * largest_norm_ * (z.row(i).norm() + largest_norm_);
    kernels::NearestRows nearest(z.rows(), options_.k, slack);
    for (const Block& block : blocks_) {
      kernels::matmul_nt(z, block.rows, dots);
      nearest.update(dots, block.half_norms, block.first);
    }
    for (Index i = 0; i < z.rows(); ++i)
      out[static_cast<std::size_t>(i)] =
          -kth_distance(MatrixView(z).row_data(i), nearest.candidates(i));
  }

  /// The k-th smallest distance of one row to rows of the bank, by differences; NaN without rows.
  float kth_distance(const float* z, const std::vector<Index>& rows) const {
    if (rows.empty()) return std::numeric_limits<float>::quiet_NaN();
    std::vector<float> squared(rows.size());
    const MatrixView repeated(z, std::ssize(rows), bank_.cols(), 0);  // the same row for each
    kernels::row_squared_distance_selected(repeated, bank_, rows, squared);
    const auto kth = squared.begin() + (options_.k - 1);
    std::ranges::nth_element(squared, kth);
    return std::sqrt(*kth);
  }

  static void normalize_rows(Matrix& rows) {
    constexpr std::array<double, 1> kTwo = {2.0};
    Matrix norms;
    kernels::row_norms(rows, kTwo, norms);
    for (Index i = 0; i < rows.rows(); ++i)
      if (norms(i, 0) != 0) rows.row(i) /= norms(i, 0);
  }

  struct Block {
    Index first;
    kernels::PackedMatrix rows;
    std::vector<float> half_norms;  // |b|^2 / 2
  };

  Options options_;
  Matrix bank_;  // [n, D]
  // derived
  std::vector<Block> blocks_;
  float largest_norm_ = 0;  // of the rows of the bank
};

}  // namespace ood
