#include "ood/row_sample.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "ood/random.h"

namespace ood {

namespace {
constexpr std::uint32_t kBankStream = 0x400;
}

RowSample::RowSample(Index rows, double share, Index seed)
    : rows_(rows), size_(rows), seed_(seed), all_(share >= 1 ? 1 : 0) {
  if (all_ != 0 || rows == 0) return;
  // Less 1e-12, what rounding may have put on top of a whole number
  size_ = static_cast<Index>(std::ceil(share * static_cast<double>(rows) * (1 - 1e-12)));
  size_ = std::clamp<Index>(size_, 1, rows);
  // The size-th smallest number is close to its share of them all: those next to it are kept, and of the
  // smaller ones how many there are. Twenty standard deviations, so that a second look is not needed.
  constexpr double kAll = 0x1p63;
  const auto n = static_cast<double>(rows), expected = static_cast<double>(size_);
  for (double width = 20 * (std::sqrt(expected) + 1);; width *= 16) {
    const double low = (expected - width) / n * kAll, high = (expected + width) / n * kAll;
    Index below = 0;
    std::vector<std::pair<Index, Index>> near;
    for (Index row = 0; row < rows; ++row) {
      const auto number = numbered(row);
      const auto value = static_cast<double>(number.first);
      if (value < low) {
        ++below;
      } else if (value <= high) {
        near.push_back(number);
      }
    }
    if (below >= size_ || below + std::ssize(near) < size_) continue;
    const auto last = near.begin() + (size_ - 1 - below);
    std::ranges::nth_element(near, last);
    last_ = *last;
    return;
  }
}

std::pair<Index, Index> RowSample::numbered(Index row) const {
  ItemRandom random(static_cast<std::uint64_t>(seed_), kBankStream,
                    static_cast<std::uint64_t>(row));
  const std::uint64_t high = random(), low = random();
  return {static_cast<Index>((high << 32 | low) >> 1), row};
}

void RowSample::require_neighbours(Index k, const std::string& source) const {
  if (size_ >= k) return;
  throw std::domain_error(
      all_ != 0 ? fmt::format("{} has {} rows, expected k = {} or more", source, size_, k)
                : fmt::format("{} has {} of {} rows in the bank, expected k = {} or more", source,
                              size_, rows_, k));
}

void RowSample::visit(FieldVisitor& v) {
  v.state("rows", rows_);
  v.state("size", size_);
  v.state("seed", seed_);
  v.state("all", all_);
  v.state("last_number", last_.first);
  v.state("last_row", last_.second);
}

}  // namespace ood
