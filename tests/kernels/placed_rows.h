/// Rows in memory as callers have them: beginning at any float, any distance apart.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>

#include "ood/matrix.h"

namespace ood::test {

/// Copies of rows on the heap with `offset` floats before the first and `gap` floats between two of
/// them. Those floats are NaN, so that a kernel that uses one shows it; the memory ends with the
/// last row, so that AddressSanitizer sees a read behind it.
class PlacedRows {
 public:
  PlacedRows(const Matrix& rows, Index offset, Index gap)
      : offset_(offset), rows_(rows.rows()), cols_(rows.cols()), stride_(rows.cols() + gap) {
    const Index size = offset + (rows_ == 0 ? 0 : (rows_ - 1) * stride_ + cols_);
    memory_.reset(new float[static_cast<std::size_t>(size)]);
    std::fill_n(memory_.get(), size, std::numeric_limits<float>::quiet_NaN());
    for (Index i = 0; i < rows_; ++i)
      std::copy_n(rows.data() + i * cols_, cols_, memory_.get() + offset + i * stride_);
  }

  MatrixView view() const { return {memory_.get() + offset_, rows_, cols_, stride_}; }

 private:
  std::unique_ptr<float[]> memory_;
  Index offset_, rows_, cols_, stride_;
};

}  // namespace ood::test
