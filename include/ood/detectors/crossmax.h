#pragma once

#include <array>
#include <stdexcept>
#include <string>

#include "ood/copies.h"
#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
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
    const bool layers = options_.members == Members::layers;
    const auto count =
        static_cast<Index>(layers ? tile.layers.size() : tile.copy_logits->shape()[0]);
    require_members(layers ? "layers" : "copies/logits", count);
    Scratch scratch;
    const Tensor3View members = layers ? stacked(tile, scratch) : *tile.copy_logits;
    MatrixMap aggregated = scratch.matrix(tile.rows(), static_cast<Index>(members.shape()[2]));
    cross_max(members, options_.k, aggregated);
    if (options_.statistic == Statistic::energy)
      kernels::row_log_sum_exp(aggregated, 1.0f, out);
    else if (options_.statistic == Statistic::max_logit)
      kernels::row_max(aggregated, out);
    else
      kernels::row_log_max_probability(aggregated, 1.0f, out);
  }

  void require_members(const std::string& name, Index count) const {
    const auto fail = [&](const std::string& expected) {
      throw std::domain_error(name + " has " + std::to_string(count) + " members, expected " +
                              expected);
    };
    if (count < 2) fail("2 or more");
    if (count < options_.k) fail("k = " + std::to_string(options_.k) + " or more");
  }

  /// The layers, [K, m, C].
  static Tensor3View stacked(const Batch& tile, Scratch& scratch) {
    const auto& first = *tile.layers.begin();
    const Index count = std::ssize(tile.layers), rows = tile.rows(), classes = first.second.cols();
    MatrixMap all = scratch.matrix(count * rows, classes);
    float* to = all.data();
    for (const auto& [name, layer] : tile.layers) {
      if (layer.cols() != classes)
        throw std::domain_error("layers/" + name + " has " + std::to_string(layer.cols()) +
                                " columns, expected " + std::to_string(classes) + " as layers/" +
                                first.first);
      kernels::copy(layer, {to, rows, classes});
      to += rows * classes;
    }
    return copies_of_rows(all, count);
  }

  Options options_;
};

}  // namespace ood
