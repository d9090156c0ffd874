#pragma once

#include <span>
#include <vector>

#include "ood/kernels.h"
#include "ood/matrix.h"

namespace ood {

/// The k rows of a bank that are most like a row: those of a loop over the bank, always, at the cost of
/// a product that may be rough.
///
/// What is looked for is defined by the kernels that take two rows: row_squared_distance_selected
/// (distance) or row_dot_selected (product). A product of all rows, of lower precision where the
/// machine is faster then, gives an interval for each of those values, by a proven bound of its error:
/// rows whose interval lies beyond the k-th best cannot be among the k. The others are taken by the
/// kernel, the most promising first, until no interval reaches the k-th best value any more. So
/// neither values nor rows depend on the filter; ties go to the lower row.
///
/// Both sides of the product are centred on the bank's mean, which changes no distance and makes the
/// bound smaller. Rows near float32's largest number, whose values might overflow, are compared to the
/// whole bank.
///
/// On a device (Exec::device) the bank is copied there, and the product is of tf32.
///
/// memory of a bank [N, D], beside its rows: 2 N D bytes (bfloat16) or 4 N D (float32), and 12 N; on
///        a device no more than the rows
class NeighbourSearch {
 public:
  enum class Likeness {
    distance,  ///< |z - b|^2, the smallest first
    product,   ///< <z, b>, the largest first
  };
  /// What rules rows out, on the processor: what it is fastest with, or one of them.
  enum class Filter { fastest, float32, bfloat16 };
  struct Neighbour {
    float value = 0;  ///< |z - b|^2 or <z, b>
    Index row = 0;    ///< of the bank
    bool operator==(const Neighbour&) const = default;
  };

  NeighbourSearch() = default;
  /// The bank is not kept: find() is given it again.
  NeighbourSearch(const MatrixView& bank, Likeness likeness, Filter filter = Filter::fastest);

  Filter filter() const { return filter_; }  ///< the one in use

  /// For each query, found [n, k] the best first. A query with NaN or infinity, or one whose values are
  /// not numbers, has k times NaN at row -1. If asked, says how many values were taken one by one; on
  /// a device, that waits for it. Throws std::invalid_argument for wrong shapes and for k outside of
  /// [1, N].
  void find(const MatrixView& queries, const MatrixView& bank, Index k, std::span<Neighbour> found,
            Index* compared = nullptr) const;

 private:
  struct Query;
  void find_on_device(const MatrixView& queries, const MatrixView& bank, Index k,
                      std::span<Neighbour> found, Index* compared) const;
  bool better(const Neighbour& a, const Neighbour& b) const;
  void begin(Query& query, const float* z, float* operand) const;
  Index find_in_tile(const MatrixView& queries, const MatrixView& bank, Index k,
                     std::span<Neighbour> found) const;
  Index collect(Query& query, const float* z, const MatrixView& bank, std::span<const float> dots,
                Index first, std::size_t k) const;
  Index settle(Query& query, const float* z, const MatrixView& bank, std::size_t k) const;
  Index compare_to_all(Query& query, const float* z, const MatrixView& bank, std::size_t k) const;
  void compare(Query& query, const float* z, const MatrixView& bank, std::span<const Index> rows,
               std::size_t k) const;

  Likeness likeness_ = Likeness::distance;
  Filter filter_ = Filter::float32;
  Vector center_, query_center_;  // [D]
  double center_norm_ = 0;
  float largest_norm_ = 0;  // of norms_ + residuals_
  // of b - center, an entry for each row of the bank: |.|, how far the product's operand is from it,
  // and what the product lacks to the value
  std::vector<float> norms_, residuals_, offsets_;
  std::vector<kernels::PackedMatrix> blocks_;
};

/// Of found [n, k], values being |z - b|^2: out_i = the root of the k-th. NaN where it is not finite.
void kth_distances(std::span<const NeighbourSearch::Neighbour> found, Index k,
                   std::span<float> out);
/// The mean of the roots of all k, in float64; NaN where one is not finite.
void mean_distances(std::span<const NeighbourSearch::Neighbour> found, Index k,
                    std::span<float> out);
/// Of found [n, k]: out_i = the mean of the k values, in float64.
void mean_values(std::span<const NeighbourSearch::Neighbour> found, Index k, std::span<float> out);

}  // namespace ood
