#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "ood/batch.h"
#include "ood/fields.h"

namespace ood {

/// The bits of x as a number of 32 bits that is ordered as the floats are; -0 is taken for 0.
inline std::uint32_t ordered_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0f);  // -0 + 0 = 0
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
inline float from_ordered_bits(std::uint32_t bits) {
  return std::bit_cast<float>((bits >> 31) != 0 ? bits & 0x7fffffffu : ~bits);
}

/// One step of a radix selection: the entries of the features whose leading bits are known are
/// counted by their next digit. Counts are whole numbers, so that no order of the rows matters.
class DigitCounts {
 public:
  DigitCounts() = default;
  /// prefixes [columns, groups]: leading bits, -1 for none. With one column all entries count as
  /// one, else those of each column of the features. A digit has `bits` bits, and `below` bits are
  /// left under it.
  DigitCounts(std::vector<Index> prefixes, Index columns, Index bits, Index below)
      : columns_(columns),
        groups_(std::ssize(prefixes) / columns),
        bits_(bits),
        below_(below),
        prefixes_(std::move(prefixes)),
        counts_(prefixes_.size() << bits, 0) {}

  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    const MatrixView& z = *batch.features;
    const std::uint64_t digits = (std::uint64_t{1} << bits_) - 1;
    for (Index i = 0; i < z.rows(); ++i) {
      const float* row = z.row_data(i);
      for (Index j = 0; j < z.cols(); ++j) {
        const std::uint64_t key = ordered_bits(row[j]);
        const auto prefix = static_cast<Index>(key >> (bits_ + below_));
        const auto digit = static_cast<Index>((key >> below_) & digits);
        const Index first = columns_ == 1 ? 0 : j * groups_;
        for (Index g = first; g < first + groups_; ++g)
          if (prefixes_[static_cast<std::size_t>(g)] == prefix)
            ++counts_[static_cast<std::size_t>((g << bits_) + digit)];
      }
    }
  }

  void merge(const DigitCounts& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  }

  /// Entries of the column that begin with prefix number `group` and go on with `digit`.
  Index count(Index column, Index group, Index digit) const {
    return counts_[static_cast<std::size_t>(((column * groups_ + group) << bits_) + digit)];
  }

  void visit(FieldVisitor& v) {
    v.state("columns", columns_);
    v.state("groups", groups_);
    v.state("bits", bits_);
    v.state("below", below_);
    v.state("prefixes", prefixes_);
    v.state("counts", counts_);
  }

 private:
  Index columns_ = 1, groups_ = 0, bits_ = 0, below_ = 0;
  std::vector<Index> prefixes_;
  std::vector<Index> counts_;
};

}  // namespace ood
