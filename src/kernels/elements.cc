#include "ood/kernels/elements.h"

#include "kernels/bodies/elements.h"
#include "kernels/cpu/shapes.h"
#include "kernels/device.h"

namespace ood::kernels {

namespace {

void require_row(const char* kernel, const MatrixView& x, std::span<const float> a,
                 const MatrixMap& out) {
  require_size(kernel, "a", a.size(), x.cols());
  require_shape(kernel, out, x.rows(), x.cols());
}

}  // namespace

void subtract_row(const MatrixView& x, std::span<const float> a, MatrixMap out) {
  require_row("subtract_row", x, a, out);
  run(bodies::SubtractRow{rows_in(x), placed(a), rows_out(out)}, x.rows());
}

void add_row(const MatrixView& x, std::span<const float> a, MatrixMap out) {
  require_row("add_row", x, a, out);
  run(bodies::AddRow{rows_in(x), placed(a), rows_out(out)}, x.rows());
}

void scale_columns(const MatrixView& x, std::span<const float> a, MatrixMap out) {
  require_row("scale_columns", x, a, out);
  run(bodies::ScaleColumns{rows_in(x), placed(a), rows_out(out)}, x.rows());
}

void subtract(const MatrixView& x, const MatrixView& y, MatrixMap out) {
  if (y.rows() != x.rows() || y.cols() != x.cols())
    throw_invalid("subtract: y has shape [{}, {}], expected [{}, {}] as x has", y.rows(), y.cols(),
                  x.rows(), x.cols());
  require_shape("subtract", out, x.rows(), x.cols());
  run(bodies::Subtract{rows_in(x), rows_in(y), rows_out(out)}, x.rows());
}

void copy(const MatrixView& x, MatrixMap out) {
  require_shape("copy", out, x.rows(), x.cols());
  run(bodies::Copy{rows_in(x), rows_out(out)}, x.rows());
}

void fill(std::span<float> x, float value) { run(bodies::Fill{x.data(), value}, std::ssize(x)); }

void fill(std::span<Index> x, Index value) {
  run(bodies::FillIndex{x.data(), value}, std::ssize(x));
}

void set_column(MatrixMap x, Index j, std::span<const float> values) {
  require_size("set_column", "values", values.size(), x.rows());
  if (j < 0 || j >= x.cols()) throw_invalid("set_column: j has {}, expected [0, {})", j, x.cols());
  run(bodies::SetColumn{rows_out(x), j, values.data()}, x.rows());
}

void look_up(std::span<const float> values, std::span<const Index> rows, std::span<float> out) {
  require_size("look_up", "out", out.size(), std::ssize(rows));
  run(bodies::LookUp{placed(values), rows.data(), out.data()}, std::ssize(rows));
}

void norm_terms(const MatrixView& norms, Index j, double t, std::span<float> scale,
                std::span<float> shift) {
  require_size("norm_terms", "scale", scale.size(), norms.rows());
  require_size("norm_terms", "shift", shift.size(), norms.rows());
  run(bodies::NormTerms{rows_in(norms), j, t, scale.data(), shift.data()}, norms.rows());
}

void scale(std::span<float> x, float factor) {
  run(bodies::Scale{x.data(), factor}, std::ssize(x));
}

void negate_root(std::span<float> x) { run(bodies::NegateRoot{x.data()}, std::ssize(x)); }

void clamp(std::span<float> x, float low, float high) {
  run(bodies::Clamp{x.data(), low, high}, std::ssize(x));
}

void add_scaled(std::span<const float> a, double factor, std::span<const float> b,
                std::span<float> out) {
  require_size("add_scaled", "b", b.size(), std::ssize(a));
  require_size("add_scaled", "out", out.size(), std::ssize(a));
  run(bodies::AddScaled{a.data(), factor, b.data(), out.data()}, std::ssize(a));
}

void multiply(std::span<const float> a, std::span<const float> b, double divisor,
              std::span<float> out) {
  require_size("multiply", "b", b.size(), std::ssize(a));
  require_size("multiply", "out", out.size(), std::ssize(a));
  run(bodies::Multiply{a.data(), b.data(), divisor, out.data()}, std::ssize(a));
}

void divide(std::span<const float> a, double factor, std::span<const float> b,
            std::span<float> out) {
  require_size("divide", "b", b.size(), std::ssize(a));
  require_size("divide", "out", out.size(), std::ssize(a));
  run(bodies::Divide{a.data(), factor, b.data(), out.data()}, std::ssize(a));
}

void invalidate(std::span<float> x, std::span<const Index> rows) {
  require_size("invalidate", "rows", rows.size(), std::ssize(x));
  run(bodies::Invalidate{x.data(), rows.data()}, std::ssize(x));
}

}  // namespace ood::kernels
