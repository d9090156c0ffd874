/// Entries of rows, and scores of rows, one by one.
#pragma once

#include "kernels/bodies/body.h"

namespace ood::kernels::bodies {

struct SubtractRow {
  FloatRows x;
  const float* a;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) { to[j] = from[j] - a[j]; });
  }
};

struct AddRow {
  FloatRows x;
  const float* a;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) { to[j] = from[j] + a[j]; });
  }
};

struct ScaleColumns {
  FloatRows x;
  const float* a;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) { to[j] = from[j] * a[j]; });
  }
};

struct Subtract {
  FloatRows x, y;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float *const from = x.row(i), *const less = y.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) { to[j] = from[j] - less[j]; });
  }
};

struct Copy {
  FloatRows x;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) { to[j] = from[j]; });
  }
};

struct SetColumn {
  FloatRowsOut x;
  Index j;
  const float* values;
  OOD_BODY void operator()(Index i) const { x.row(i)[j] = values[i]; }
};

struct LookUp {
  const float* values;
  const Index* rows;
  float* out;
  OOD_BODY void operator()(Index i) const { out[i] = rows[i] < 0 ? kNaN : values[rows[i]]; }
};

struct NormTerms {
  FloatRows norms;
  Index j;
  double t;
  float *scale, *shift;
  OOD_BODY void operator()(Index i) const {
    constexpr double kTiny = 1e-10;  // the authors' guard
    const double unit = 1 / (static_cast<double>(norms.row(i)[j]) + kTiny);
    const double size = static_cast<double>(norms.row(i)[j + 1]) * unit;
    scale[i] = static_cast<float>(unit / t);
    shift[i] = static_cast<float>(-size * size / (2 * t));
  }
};

struct FillIndex {
  Index* x;
  Index value;
  OOD_BODY void operator()(Index i) const { x[i] = value; }
};

struct Fill {
  float* x;
  float value;
  OOD_BODY void operator()(Index i) const { x[i] = value; }
};

struct Scale {
  float* x;
  float factor;
  OOD_BODY void operator()(Index i) const { x[i] = factor * x[i]; }
};

struct NegateRoot {
  float* x;
  OOD_BODY void operator()(Index i) const { x[i] = -std::sqrt(x[i]); }
};

struct Clamp {
  float* x;
  float low, high;
  OOD_BODY void operator()(Index i) const {
    if (x[i] < low) x[i] = low;
    if (x[i] > high) x[i] = high;
  }
};

struct AddScaled {
  const float* a;
  double factor;
  const float* b;
  float* out;
  OOD_BODY void operator()(Index i) const {
    out[i] = static_cast<float>(static_cast<double>(a[i]) + factor * static_cast<double>(b[i]));
  }
};

struct Multiply {
  const float *a, *b;
  double divisor;
  float* out;
  OOD_BODY void operator()(Index i) const {
    out[i] = static_cast<float>(static_cast<double>(a[i]) * static_cast<double>(b[i]) / divisor);
  }
};

struct Divide {
  const float* a;
  double factor;
  const float* b;
  float* out;
  OOD_BODY void operator()(Index i) const {
    if (!is_finite(b[i]))
      out[i] = kNaN;
    else
      out[i] =
          a[i] == 0.0f
              ? 0.0f
              : static_cast<float>(factor * static_cast<double>(a[i]) / static_cast<double>(b[i]));
  }
};

struct Invalidate {
  float* x;
  const Index* rows;
  OOD_BODY void operator()(Index i) const {
    if (rows[i] < 0) x[i] = kNaN;
  }
};

}  // namespace ood::kernels::bodies

#define OOD_ELEMENT_BODIES(X) \
  X(SubtractRow)              \
  X(AddRow)                   \
  X(ScaleColumns)             \
  X(Subtract)                 \
  X(Copy)                     \
  X(Fill)                     \
  X(Scale)                    \
  X(NegateRoot)               \
  X(Clamp)                    \
  X(AddScaled)                \
  X(Multiply)                 \
  X(Divide)                   \
  X(Invalidate)               \
  X(SetColumn)                \
  X(LookUp)                   \
  X(NormTerms)                \
  X(FillIndex)
