/// A seeded random share of the rows of a source.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "ood/fields.h"

namespace ood {

/// Exactly ceil(share n) of the rows 0 .. n - 1: those with the smallest random numbers. A row's
/// number depends on seed and row alone, so that batches and threads do not matter, and with one
/// seed a larger share holds a smaller one. Choosing draws n numbers, and keeps the last one that counts; about
/// 640 sqrt(share n) bytes are needed for it.
class RowSample {
 public:
  RowSample() = default;
  /// share in (0, 1], as it is written in decimals: 0.07 of 100 rows are 7. 1: all rows, also those
  /// from `rows` on.
  RowSample(Index rows, double share = 1, Index seed = 0);  // NOLINT: n rows are a sample of n

  Index size() const { return size_; }
  bool contains(Index row) const { return all_ != 0 || numbered(row) <= last_; }
  /// Throws std::domain_error that names the source if the k-th nearest row of these is not there.
  void require_neighbours(Index k, const std::string& source) const;

  void visit(FieldVisitor& v);

 private:
  std::pair<Index, Index> numbered(Index row) const;  // random number and row: no two are equal

  Index rows_ = 0, size_ = 0, seed_ = 0;
  Index all_ = 1;  // 0 or 1
  std::pair<Index, Index> last_;
};

}  // namespace ood
