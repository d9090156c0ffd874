/// Epilogues on a tile of products, and second moments.
#pragma once

#include "kernels/bodies/body.h"

namespace ood::kernels::bodies {

/// scale dot + offset, rounded once: what is computed twice has the same bits, whatever compilers make
/// of a product and a sum.
OOD_BODY inline float affine(float scale, float dot, float offset) {
  return std::fma(scale, dot, offset);
}

struct AffineMax {
  float max;
  float poison;  // of the products alone: an offset may be -infinity
  Index place;   // of the first largest
};

/// max_j scale dots_j + offset_j.
template <class Lanes>
OOD_BODY AffineMax affine_max(const float* dots, const float* offset, Index n, float scale,
                              const Lanes& lanes) {
  return lanes.reduce(
      n, AffineMax{-kInfinity, 0, 0},
      [&](AffineMax& own, Index j) {
        const float value = affine(scale, dots[j], offset[j]);
        own.poison += scale * dots[j] * 0.0f;
        if (value > own.max) {
          own.max = value;
          own.place = j;
        }
      },
      [](AffineMax& own, const AffineMax& other) {
        own.poison += other.poison;
        if (other.max > own.max || (other.max == own.max && other.place < own.place)) {
          own.max = other.max;
          own.place = other.place;
        }
      });
}

struct RowMaxAffine {
  FloatRows dots;
  float scale;
  const float* offset;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const AffineMax largest = affine_max(dots.row(i), offset, dots.cols, scale, lanes);
    lanes.once([&] { out[i] = largest.max + largest.poison; });
  }
};

struct RowArgmaxAffine {
  FloatRows dots;
  float scale;
  const float* offset;
  Index* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const AffineMax largest = affine_max(dots.row(i), offset, dots.cols, scale, lanes);
    lanes.once([&] { out[i] = largest.poison == 0.0f ? largest.place : 0; });
  }
};

struct RowLogSumExpAffine {
  FloatRows dots;
  const float *scale, *offset;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = dots.row(i);
    const float factor = scale[i];
    const AffineMax largest = affine_max(row, offset, dots.cols, factor, lanes);
    if (largest.max == -kInfinity) {  // no term is there
      lanes.once([&] { out[i] = largest.max + largest.poison; });
      return;
    }
    const float sum = lanes.template sum<float>(dots.cols, [&](Index j) {
      return std::exp(affine(factor, row[j], offset[j]) - largest.max);
    });
    lanes.once([&] {
      out[i] = static_cast<float>(static_cast<double>(largest.max) +
                                  std::log(static_cast<double>(sum))) +
               largest.poison;
    });
  }
};

struct Cosines {
  FloatRows dots;
  const float* offset;
  float scale;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = dots.row(i);
    float* const to = out.row(i);
    lanes.each(dots.cols, [&](Index j) {
      const float angle = row[j] + offset[j];
      to[j] = std::fabs(angle) <= 39000.0f ? scale * std::cos(angle) : kNaN;  // nor for NaN
    });
  }
};

/// For columns, whose entries are the rows of the tile.
struct ColumnLogSumExp {
  FloatRows dots;
  const float *scale, *shift;
  double *max, *sum, *squares;

  struct Largest {
    float value, poison;
  };
  struct Sums {
    float terms, squares;
  };

  template <class Lanes>
  OOD_BODY void operator()(Index column, const Lanes& lanes) const {
    const Largest largest = lanes.reduce(
        dots.rows, Largest{kLowest, 0},
        [&](Largest& own, Index i) {
          const float e = affine(scale[i], dots.row(i)[column], shift[i]);
          own.value = larger(e, own.value);
          own.poison += e * 0.0f;
        },
        [](Largest& own, const Largest& other) {
          own.value = larger(other.value, own.value);
          own.poison += other.poison;
        });
    const Sums tile = lanes.reduce(
        dots.rows, Sums{0, 0},
        [&](Sums& own, Index i) {
          const float term =
              std::exp(affine(scale[i], dots.row(i)[column], shift[i]) - largest.value);
          own.terms += term;
          own.squares += term * term;
        },
        [](Sums& own, const Sums& other) {
          own.terms += other.terms;
          own.squares += other.squares;
        });
    lanes.once([&] {
      const auto tile_max = static_cast<double>(largest.value + largest.poison);
      const double joint = larger(tile_max, max[column]);
      const double before = std::exp(max[column] - joint), here = std::exp(tile_max - joint);
      sum[column] = sum[column] * before + static_cast<double>(tile.terms) * here;
      squares[column] =
          squares[column] * before * before + static_cast<double>(tile.squares) * here * here;
      max[column] = joint;
    });
  }
};

/// Rows less their centers, in float64.
struct CenterRows {
  FloatRows x;
  const double* centers;
  const Index* centers_row;
  double* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const double* const center = centers + centers_row[i] * x.cols;
    double* const to = out + i * x.cols;
    lanes.each(x.cols, [&](Index j) { to[j] = static_cast<double>(row[j]) - center[j]; });
  }
};

/// S += Y^T Y, y [rows, cols]: the lower triangle of the rows of S from `first` on, which is where `scatter`
/// begins. Each sum runs over the rows of y in their order.
struct AddScatter {
  const double* y;
  Index rows, cols, first;
  double* scatter;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Index row = first + i;
    lanes.each(row + 1, [&](Index column) {
      double sum = 0;
      for (Index r = 0; r < rows; ++r) sum = std::fma(y[r * cols + row], y[r * cols + column], sum);
      scatter[i * cols + column] += sum;
    });
  }
};

}  // namespace ood::kernels::bodies

#define OOD_EPILOGUE_BODIES(X) \
  X(RowMaxAffine)              \
  X(RowArgmaxAffine)           \
  X(RowLogSumExpAffine)        \
  X(Cosines)                   \
  X(ColumnLogSumExp)           \
  X(CenterRows)                \
  X(AddScatter)
