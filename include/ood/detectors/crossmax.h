#pragma once

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/copies.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/scratch.h"

namespace ood {

/// CrossMax: how far the logits of several members agree, robust to any minority of them.
///
///   s(f) = log sum_c exp(Y_c)                                 higher = more in-distribution
///   s(f) = max_c Y_c                                          statistic = max_logit
///   s(f) = max_c log softmax(Y)_c                             statistic = msp
///   Y_c  = median over the members m of b_mc, or the k-th largest of them
///   b_mc = a_mc - max_m a_mc,   a_mc = f_mc - max_c f_mc
///
/// The members are the copies of the logits, or the layers, each the logits [m, C] of a head.
///
/// needs  copies/logits [K, m, C], or layers of width C (members = layers), in score; 2 members
/// fit    nothing
/// score  copies/logits [K, m, C] -> out [m]; unit: nats
/// cost   score O(K m C)
/// errors std::domain_error: less than 2 members, k above their number, layers whose widths
///        differ
/// source Fort & Lakshminarayanan, 2024, arXiv:2408.05446, algorithm 1, gives Y alone: the logits of
///        a robust classifier, for members = layers, with the median or the k-th largest. The scores
///        are ours. Y is 0 for a class that at least half of the members rate like the one that
///        rates it highest, so Y tells agreement, and the logits of members that are all the same
///        are all 0. Hence the energy by default: it is highest, log C, where the members agree.
///        max_logit is 0 wherever most members agree on the class, and such rows tie; msp is low
///        where all members are the same. The median of an even number is the mean of the middle
///        two (torch.median: the lower one).
class CrossMax final : public Detector {
 public:
  enum class Members { copies, layers };
  static constexpr std::array<std::string_view, 2> kMembers = {"copies", "layers"};
  enum class Statistic { energy, max_logit, msp };
  static constexpr std::array<std::string_view, 3> kStatistics = {"energy", "max_logit", "msp"};

  struct Options {
    Members members = Members::copies;
    Index k = 0;  ///< the k-th largest; 0: the median
    Statistic statistic = Statistic::energy;
  };
  static constexpr std::string_view kName = "crossmax";
  CrossMax() = default;
  explicit CrossMax(const Options& options) : options_(options) { check_options(); }
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    if (options_.members == Members::layers) return {.fit = {}, .score = {.layers = true}};
    return {.fit = {}, .score = {.copy_logits = true}};
  }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<CrossMax>(*this); }

  void visit(FieldVisitor& v) override {
    v.option("members", options_.members, kMembers, "whose logits are compared");
    v.option("k", options_.k, Range::at_least(0).swept({0, 2, 3}),
             "the k-th largest over the members; 0: the median");
    v.option("statistic", options_.statistic, kStatistics, "of the aggregated logits");
  }

 private:
  void score_tile(const Batch& tile, std::span<float> out) const override {
    Scratch scratch;
    const std::pmr::vector<MatrixView> members = members_of(tile, scratch);
    MatrixMap aggregated = scratch.matrix(tile.rows(), members.front().cols());
    for (Index i = 0; i < tile.rows(); ++i) aggregate(members, i, aggregated);
    if (options_.statistic == Statistic::energy)
      kernels::row_log_sum_exp(aggregated, 1.0f, out);
    else if (options_.statistic == Statistic::max_logit)
      kernels::row_max(aggregated, out);
    else
      kernels::row_log_max_probability(aggregated, 1.0f, out);
  }

  std::pmr::vector<MatrixView> members_of(const Batch& tile, Scratch& scratch) const {
    const bool layers = options_.members == Members::layers;
    const std::size_t count = layers ? tile.layers.size() : tile.copy_logits->shape()[0];
    const auto fail = [&](const std::string& expected) {
      throw std::domain_error((layers ? "layers has " : "copies/logits has ") +
                              std::to_string(count) + " members, expected " + expected);
    };
    if (count < 2) fail("2 or more");
    if (static_cast<Index>(count) < options_.k)
      fail("k = " + std::to_string(options_.k) + " or more");
    std::pmr::vector<MatrixView> members(&scratch);
    members.reserve(count);
    if (layers) {
      for (const auto& [name, rows] : tile.layers) {
        members.push_back(rows);
        if (rows.cols() != members.front().cols())
          throw std::domain_error("layers/" + name + " has " + std::to_string(rows.cols()) +
                                  " columns, expected " + std::to_string(members.front().cols()) +
                                  " as layers/" + tile.layers.begin()->first);
      }
    } else {
      for (std::size_t k = 0; k < count; ++k)
        members.push_back(copy_rows(*tile.copy_logits, static_cast<Index>(k)));
    }
    return members;
  }

  /// Y of row i, into that row of `out`; NaN where a member is not finite.
  void aggregate(std::span<const MatrixView> members, Index i, MatrixMap out) const {
    Scratch scratch;
    MatrixDMap b = scratch.matrix_d(out.cols(), std::ssize(members));
    for (Index m = 0; m < b.cols(); ++m) {
      const auto f = members[static_cast<std::size_t>(m)].row(i).cast<double>();
      b.col(m) = (f.array() - f.maxCoeff()).matrix().transpose();
    }
    if (!b.allFinite()) {
      out.row(i).setConstant(std::numeric_limits<float>::quiet_NaN());
      return;
    }
    for (Index c = 0; c < b.rows(); ++c) {
      const std::span<double> values(b.row(c).data(), static_cast<std::size_t>(b.cols()));
      std::ranges::sort(values, std::greater());
      const std::size_t half = values.size() / 2;
      const double middle =
          values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
      const double y =
          (options_.k == 0 ? middle : values[static_cast<std::size_t>(options_.k - 1)]) - values[0];
      // a number of float32, so that the row stays finite
      out(i, c) = static_cast<float>(
          std::max(y, static_cast<double>(std::numeric_limits<float>::lowest())));
    }
  }

  Options options_;
};

}  // namespace ood
