// Second moments in float64: S += Y^T Y in register tiles over packed panels of columns.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/scatter.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include <algorithm>

#include "ood/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F64 = hn::ScalableTag<double>;
using V64 = hn::Vec<F64>;

constexpr size_t kTileColumns =
    3;  // i: broadcast; divides the width of a panel, whatever the lanes
constexpr size_t kTileVectors = 3;  // j: loaded; 3 x 3 sums + 3 + 1 fit 16 registers

/// Entries of a panel: kTileVectors vectors of columns.
size_t PanelWidth() { return kTileVectors * hn::Lanes(F64()); }

/// A tile of S += sum_r y[r, i..i+3) y[r, panel j].
HWY_INLINE void tile(const double* panel_i, size_t i, const double* panel_j, size_t rows,
                     size_t width, double* s, size_t stride, size_t tile_rows, size_t tile_cols) {
  const F64 d;
  const size_t lanes = hn::Lanes(d);
  V64 sums[kTileColumns][kTileVectors];
  for (auto& row : sums)
    for (V64& sum : row) sum = hn::Zero(d);
  for (size_t r = 0; r < rows; ++r) {
    const double* right = panel_j + r * width;
    const V64 right0 = hn::LoadU(d, right), right1 = hn::LoadU(d, right + lanes),
              right2 = hn::LoadU(d, right + 2 * lanes);
    const double* left = panel_i + r * width + i;
    for (size_t c = 0; c < kTileColumns; ++c) {
      const V64 factor = hn::Set(d, left[c]);
      sums[c][0] = hn::MulAdd(factor, right0, sums[c][0]);
      sums[c][1] = hn::MulAdd(factor, right1, sums[c][1]);
      sums[c][2] = hn::MulAdd(factor, right2, sums[c][2]);
    }
  }
  if (tile_cols == width) {
    for (size_t c = 0; c < tile_rows; ++c)
      for (size_t v = 0; v < kTileVectors; ++v) {
        double* at = s + c * stride + v * lanes;
        hn::StoreU(hn::Add(hn::LoadU(d, at), sums[c][v]), d, at);
      }
    return;
  }
  HWY_ALIGN double buffer[kTileVectors * HWY_MAX_BYTES / sizeof(double)];
  for (size_t c = 0; c < tile_rows; ++c) {
    for (size_t v = 0; v < kTileVectors; ++v) hn::Store(sums[c][v], d, buffer + v * lanes);
    for (size_t j = 0; j < tile_cols; ++j) s[c * stride + j] += buffer[j];
  }
}

/// packed: panels of `width` columns, each [rows, width]; zero behind the last column.
void AddPacked(const double* packed, size_t rows, size_t cols, double* s) {
  const size_t width = PanelWidth();
  const size_t panels = (cols + width - 1) / width;
  for (size_t pj = 0; pj < panels; ++pj) {
    const size_t j = pj * width, tile_cols = std::min(width, cols - j);
    for (size_t pi = pj; pi < panels; ++pi)
      for (size_t i = 0; i < width && pi * width + i < cols; i += kTileColumns) {
        const size_t row = pi * width + i;
        tile(packed + pi * rows * width, i, packed + pj * rows * width, rows, width,
             s + row * cols + j, cols, std::min(kTileColumns, cols - row), tile_cols);
      }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/shapes.h"
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(PanelWidth);
HWY_EXPORT(AddPacked);

namespace {

constexpr Index kRowsAtOnce = 256;  // two packed panels of so many rows stay in the first caches

void require_square(const char* kernel, Index cols, const MatrixD& scatter) {
  if (scatter.rows() != cols || scatter.cols() != cols)
    throw_invalid("{}: scatter is {} x {}, expected {} x {}", kernel, scatter.rows(),
                  scatter.cols(), cols, cols);
}

/// Packs entry(i, j) of [n, d] into panels, block by block, and adds each block.
template <class WriteRow>
void add_in_blocks(Index n, Index d, MatrixD& scatter, const WriteRow& write_row) {
  ensure_simd_target();
  const auto width = static_cast<Index>(HWY_DYNAMIC_DISPATCH(PanelWidth)());
  const Index panels = (d + width - 1) / width;
  VectorD row = VectorD::Zero(panels * width);
  VectorD packed(panels * width * std::min(n, kRowsAtOnce));
  for (Index begin = 0; begin < n; begin += kRowsAtOnce) {
    const Index count = std::min(kRowsAtOnce, n - begin);
    for (Index i = 0; i < count; ++i) {
      write_row(begin + i, row);
      for (Index p = 0; p < panels; ++p)
        std::copy_n(row.data() + p * width, width, packed.data() + (p * count + i) * width);
    }
    HWY_DYNAMIC_DISPATCH(AddPacked)
    (packed.data(), static_cast<size_t>(count), static_cast<size_t>(d), scatter.data());
  }
}

}  // namespace

void add_centered_scatter(const MatrixView& x, const MatrixD& centers,
                          std::span<const Index> centers_row, MatrixD& scatter) {
  require_size("add_centered_scatter", "centers_row", centers_row.size(), x.rows());
  require_square("add_centered_scatter", x.cols(), scatter);
  if (centers.cols() != x.cols())
    throw_invalid("add_centered_scatter: centers has {} columns, expected {} as x has",
                  centers.cols(), x.cols());
  for (const Index row : centers_row)
    if (row < 0 || row >= centers.rows())
      throw_invalid("add_centered_scatter: centers_row has {}, expected [0, {})", row,
                    centers.rows());
  add_in_blocks(x.rows(), x.cols(), scatter, [&](Index i, VectorD& row) {
    row.head(x.cols()) = x.row(i).transpose().cast<double>() -
                         centers.row(centers_row[static_cast<size_t>(i)]).transpose();
  });
}

void add_scatter(const MatrixD& y, MatrixD& scatter) {
  require_square("add_scatter", y.cols(), scatter);
  add_in_blocks(y.rows(), y.cols(), scatter,
                [&](Index i, VectorD& row) { row.head(y.cols()) = y.row(i).transpose(); });
}

}  // namespace ood::kernels
#endif
