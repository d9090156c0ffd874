// Second moments in float64: S += Y^T Y in register tiles over packed panels of columns.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/scatter.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "ood/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F64 = hn::ScalableTag<double>;
using V64 = hn::Vec<F64>;

// A tile is kTileColumns x kTileVectors sums: with the vectors that are loaded and one broadcast, 28 of
// the 32 registers of AVX-512, all 16 of AVX2. kTileColumns divides the width of a panel.
constexpr size_t kTileVectors = 3;                                                  // j: loaded
constexpr size_t kTileColumns = hn::MaxLanes(F64()) < 4 ? 3 : hn::MaxLanes(F64());  // i: broadcast

/// Entries of a panel: kTileVectors vectors of columns.
size_t PanelWidth() { return kTileVectors * hn::Lanes(F64()); }

/// A tile of S += sum_r y[r, i..i+kTileColumns) y[r, panel j].
HWY_INLINE void tile(const double* HWY_RESTRICT panel_i, size_t i,
                     const double* HWY_RESTRICT panel_j, size_t rows, size_t width,
                     double* HWY_RESTRICT s, size_t stride, size_t tile_rows, size_t tile_cols) {
  const F64 d;
  const size_t lanes = hn::Lanes(d);
  // S is far larger than the caches: it is on its way while the sums are made
  for (size_t c = 0; c < tile_rows; ++c) {
    hwy::Prefetch(s + c * stride);
    hwy::Prefetch(s + c * stride + tile_cols / 2);
    hwy::Prefetch(s + c * stride + tile_cols - 1);
  }
  V64 sums[kTileColumns][kTileVectors];
  for (auto& row : sums)
    for (V64& sum : row) sum = hn::Zero(d);
  const double* HWY_RESTRICT left = panel_i + i;
  const double* HWY_RESTRICT right = panel_j;
  for (size_t r = 0; r < rows; ++r, left += width, right += width) {
    const V64 right0 = hn::LoadU(d, right), right1 = hn::LoadU(d, right + lanes),
              right2 = hn::LoadU(d, right + 2 * lanes);
    for (size_t c = 0; c < kTileColumns; ++c) {
      const V64 factor = hn::Set(d, left[c]);
      sums[c][0] = hn::MulAdd(factor, right0, sums[c][0]);
      sums[c][1] = hn::MulAdd(factor, right1, sums[c][1]);
      sums[c][2] = hn::MulAdd(factor, right2, sums[c][2]);
    }
  }
  // The bounds of these loops are constants: else the compiler keeps the sums in memory all the while
  if (tile_rows == kTileColumns && tile_cols == width) {
    for (size_t c = 0; c < kTileColumns; ++c)
      for (size_t v = 0; v < kTileVectors; ++v) {
        double* at = s + c * stride + v * lanes;
        hn::StoreU(hn::Add(hn::LoadU(d, at), sums[c][v]), d, at);
      }
    return;
  }
  constexpr size_t kMaxWidth = kTileVectors * hn::MaxLanes(F64());
  HWY_ALIGN double buffer[kTileColumns * kMaxWidth];
  for (size_t c = 0; c < kTileColumns; ++c)
    for (size_t v = 0; v < kTileVectors; ++v)
      hn::StoreU(sums[c][v], d, buffer + c * kMaxWidth + v * lanes);
  for (size_t c = 0; c < tile_rows; ++c)
    for (size_t j = 0; j < tile_cols; ++j) s[c * stride + j] += buffer[c * kMaxWidth + j];
}

/// packed: panels of `width` columns, each [rows, width]; zero behind the last column. Adds to the rows of S
/// that panels [first, last) stand for.
void AddPacked(const double* packed, size_t rows, size_t cols, size_t first, size_t last,
               double* s) {
  const size_t width = PanelWidth();
  for (size_t pj = 0; pj < last; ++pj) {
    const size_t j = pj * width, tile_cols = std::min(width, cols - j);
    for (size_t pi = std::max(pj, first); pi < last; ++pi)
      for (size_t i = 0; i < width && pi * width + i < cols; i += kTileColumns) {
        const size_t row = pi * width + i;
        tile(packed + pi * rows * width, i, packed + pj * rows * width, rows, width,
             s + row * cols + j, cols, std::min(kTileColumns, cols - row), tile_cols);
      }
  }
}

/// Rows less their centers, in float64: a whole vector of them, or one.
struct Differences {
  const float* x;
  size_t stride;
  const double* centers;
  const Index* centers_row;
  size_t cols;

  const double* center(size_t i) const {
    return centers + static_cast<size_t>(centers_row[i]) * cols;
  }
  HWY_INLINE V64 vector(size_t i, size_t j) const {
    const F64 d;
    const V64 entries = hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, F64>(), x + i * stride + j));
    return hn::Sub(entries, hn::LoadU(d, center(i) + j));
  }
  double entry(size_t i, size_t j) const {
    return static_cast<double>(x[i * stride + j]) - center(i)[j];
  }
};

struct PlainRows {
  const double* y;
  size_t stride;
  HWY_INLINE V64 vector(size_t i, size_t j) const { return hn::LoadU(F64(), y + i * stride + j); }
  double entry(size_t i, size_t j) const { return y[i * stride + j]; }
};

/// Packs y [rows, cols] as AddPacked takes it.
template <class Y>
HWY_INLINE void pack(const Y& y, size_t rows, size_t cols, double* packed) {
  const F64 d;
  const size_t lanes = hn::Lanes(d), width = PanelWidth();
  for (size_t i = 0; i < rows; ++i)
    for (size_t panel = 0; panel < cols; panel += width) {
      double* at = packed + panel * rows + i * width;
      for (size_t j = panel; j < panel + width; j += lanes, at += lanes) {
        if (j + lanes <= cols) {
          hn::StoreU(y.vector(i, j), d, at);
        } else {
          for (size_t l = 0; l < lanes; ++l) at[l] = j + l < cols ? y.entry(i, j + l) : 0;
        }
      }
    }
}

void PackDifferences(const float* x, size_t stride, const double* centers, const Index* centers_row,
                     size_t rows, size_t cols, double* packed) {
  pack(Differences{x, stride, centers, centers_row, cols}, rows, cols, packed);
}

void PackRows(const double* y, size_t stride, size_t rows, size_t cols, double* packed) {
  pack(PlainRows{y, stride}, rows, cols, packed);
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/bodies/epilogues.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"
#include "kernels/dispatch.h"
#include "ood/scratch.h"

namespace ood::kernels {

HWY_EXPORT(PanelWidth);
HWY_EXPORT(AddPacked);
HWY_EXPORT(PackDifferences);
HWY_EXPORT(PackRows);

namespace {

constexpr Index kRowsAtOnce = 256;  // a packed panel of so many rows stays in the first cache

void require_square(const char* kernel, Index cols, const MatrixD& scatter) {
  if (scatter.rows() != cols || scatter.cols() != cols)
    throw_invalid("{}: scatter is {} x {}, expected {} x {}", kernel, scatter.rows(),
                  scatter.cols(), cols, cols);
}

/// Where the part-th of `parts` begins, so that the triangle's parts have about the same area.
Index first_panel(Index panels, Index part, Index parts) {
  return static_cast<Index>(
      std::round(static_cast<double>(panels) *
                 std::sqrt(static_cast<double>(part) / static_cast<double>(parts))));
}

/// Calls pack(first, count, packed) for each block of n rows, and adds what it packed.
template <class Pack>
void add_in_blocks(Index n, Index d, MatrixD& scatter, const Pack& pack, Index part = 0,
                   Index parts = 1) {
  ensure_simd_target();
  const auto width = static_cast<Index>(HWY_DYNAMIC_DISPATCH(PanelWidth)());
  const Index panels = (d + width - 1) / width;
  const auto begin = static_cast<size_t>(first_panel(panels, part, parts)),
             end = static_cast<size_t>(first_panel(panels, part + 1, parts));
  VectorD packed(panels * width * std::min(n, kRowsAtOnce));
  for (Index first = 0; first < n; first += kRowsAtOnce) {
    const Index count = std::min(kRowsAtOnce, n - first);
    pack(first, static_cast<size_t>(count), packed.data());
    HWY_DYNAMIC_DISPATCH(AddPacked)
    (packed.data(), static_cast<size_t>(count), static_cast<size_t>(d), begin, end, scatter.data());
  }
}

template <class T>
const T* copied_in(DeviceQueue& queue, Scratch& scratch, const T* host, Index count) {
  const std::span<T> to = scratch.span<T>(count);
  if (count > 0) queue.copy_in(to.data(), host, to.size_bytes());
  return to.data();
}

/// Calls fill(first, count, y) for each block of n rows, and adds y [count, d], all in the device. The sums
/// are the host's, so they go there and back: as everything but the rows of add_centered_scatter, they are
/// owned matrices.
template <class Fill>
void add_on_device(DeviceQueue& queue, Scratch& scratch, Index n, MatrixD& scatter,
                   const Fill& fill, Index part = 0, Index parts = 1) {
  constexpr Index kRowsInDevice = 4096;
  const Index d = scatter.cols(), begin = first_panel(d, part, parts),
              end = first_panel(d, part + 1, parts), entries = (end - begin) * d;
  if (n == 0 || entries == 0) return;
  MatrixDMap sums = scratch.matrix_d(end - begin, d);
  double* const own = scatter.data() + begin * d;
  const auto bytes = static_cast<size_t>(entries) * sizeof(double);
  queue.copy_in(sums.data(), own, bytes);
  double* const y = scratch.matrix_d(std::min(n, kRowsInDevice), d).data();
  for (Index first = 0; first < n; first += kRowsInDevice) {
    const Index count = std::min(kRowsInDevice, n - first);
    fill(first, count, y);
    queue.run(bodies::AddScatter{y, count, d, begin, sums.data()}, end - begin);
  }
  queue.copy_out(own, sums.data(), bytes);
  queue.wait();
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
  if (DeviceQueue* const queue = device_queue()) {
    Scratch scratch;
    const double* const c = copied_in(*queue, scratch, centers.data(), centers.size());
    const Index* const row = copied_in(*queue, scratch, centers_row.data(), x.rows());
    return add_on_device(
        *queue, scratch, x.rows(), scatter, [&](Index first, Index count, double* y) {
          queue->run(bodies::CenterRows{rows_in(x.middle_rows(first, count)), c, row + first, y},
                     count);
        });
  }
  add_in_blocks(x.rows(), x.cols(), scatter, [&](Index first, size_t count, double* packed) {
    HWY_DYNAMIC_DISPATCH(PackDifferences)
    (x.row_data(first), static_cast<size_t>(x.outerStride()), centers.data(),
     centers_row.data() + first, count, static_cast<size_t>(x.cols()), packed);
  });
}

void add_scatter(const MatrixD& y, MatrixD& scatter, Index part, Index parts) {
  require_square("add_scatter", y.cols(), scatter);
  if (part < 0 || part >= parts)
    throw_invalid("add_scatter: part has {}, expected [0, {})", part, parts);
  if (DeviceQueue* const queue = device_queue()) {
    Scratch scratch;
    return add_on_device(
        *queue, scratch, y.rows(), scatter,
        [&](Index first, Index count, double* to) {
          queue->copy_in(to, y.data() + first * y.cols(),
                         static_cast<size_t>(count * y.cols()) * sizeof(double));
        },
        part, parts);
  }
  add_in_blocks(
      y.rows(), y.cols(), scatter,
      [&](Index first, size_t count, double* packed) {
        const auto cols = static_cast<size_t>(y.cols());
        HWY_DYNAMIC_DISPATCH(PackRows)
        (y.data() + first * y.cols(), cols, count, cols, packed);
      },
      part, parts);
}

}  // namespace ood::kernels
#endif
