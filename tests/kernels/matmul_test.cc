#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "kernels/error_bounds.h"
#include "kernels/placed_rows.h"
#include "kernels/reference.h"
#include "kernels/row_patterns.h"
#include "ood/exec.h"
#include "ood/kernels.h"

using namespace ood;
using namespace ood::test;

namespace {

struct Shape {
  Index d, m;
};
constexpr Shape kShapes[] = {{342, 10}, {64, 10}, {342, 342}, {2048, 1000},
                             {37, 7},   {1, 1},   {1000, 1},  {100, 37},
                             {16, 16},  {3, 200}, {600, 65},  {1025, 130}};
constexpr Index kMaxHeight = 300;

using kernels::Precision;

/// Those that products have here.
const std::vector<Precision>& precisions() {
  static const std::vector<Precision> list = [] {
    std::vector<Precision> all = {Precision::float32};
    for (const Precision precision : {Precision::bfloat16x3, Precision::bfloat16, Precision::tf32})
      if (kernels::available(precision) == precision) all.push_back(precision);
    return all;
  }();
  return list;
}

std::string_view name_of(Precision precision) {
  return kernels::kPrecisions[static_cast<std::size_t>(precision)];
}

/// The error as a share of |x| |b|.
double allowed(Precision precision, Index depth) {
  const double sum = static_cast<double>(depth) * kUnit;
  if (precision == Precision::bfloat16) return 0x1p-7 + 1.02 * sum;
  if (precision == Precision::bfloat16x3) return 0x1p-15 + 3.06 * sum;
  if (precision == Precision::tf32) return 0x1p-10 + 1.01 * sum;
  return sum;
}

Matrix multiply(const MatrixView& x, const kernels::PackedMatrix& b) {
  Matrix out;
  kernels::matmul_nt(x, b, out);
  return out;
}

/// How many rows of `got` differ from rows [begin, begin + got.rows()) of `expected` in a bit.
Index different_rows(const Matrix& got, const Matrix& expected, Index begin = 0) {
  Index different = 0;
  for (Index i = 0; i < got.rows(); ++i)
    different +=
        std::memcmp(got.data() + i * got.cols(), expected.data() + (begin + i) * got.cols(),
                    static_cast<std::size_t>(got.cols()) * sizeof(float)) != 0;
  return different;
}

/// Products of rows, each made alone.
Matrix one_by_one(const Matrix& x, const kernels::PackedMatrix& b) {
  Matrix out(x.rows(), b.rows());
  for (Index i = 0; i < x.rows(); ++i) out.row(i) = multiply(MatrixView(x).middle_rows(i, 1), b);
  return out;
}

/// All heights where that is quick, else those around the ones that products are made of.
std::vector<Index> heights(const Shape& shape) {
  std::vector<Index> list;
  const bool all = shape.d * shape.m <= 40000;
  for (Index h = 1; h <= kMaxHeight; ++h)
    if (all || h <= 5 || h % 48 == 19 || (h >= 126 && h <= 133) || h == 144 || h == 276)
      list.push_back(h);
  return list;
}

}  // namespace

TEST_CASE("matmul_nt: error") {
  for (const Precision precision : precisions())
    for (const Shape& shape : kShapes)
      for (const Pattern& pattern : kFeaturePatterns) {
        if (pattern.name == "many decades" || pattern.name == "denormal") continue;
        if (shape.d * shape.m > 200000 && pattern.name != "normal") continue;  // slow to make
        Random random(41);
        Matrix x(5, shape.d), b(shape.m, shape.d);
        const auto d = static_cast<std::size_t>(shape.d);
        for (Index i = 0; i < x.rows(); ++i) pattern.fill(random, {x.data() + i * shape.d, d});
        for (Index j = 0; j < b.rows(); ++j) pattern.fill(random, {b.data() + j * shape.d, d});
        const Matrix out = multiply(x, kernels::PackedMatrix(b, precision));
        REQUIRE(out.rows() == x.rows());
        REQUIRE(out.cols() == b.rows());
        const auto row = [d](const Matrix& rows, Index i) {
          return std::span<const float>(rows.data() + i * rows.cols(), d);
        };
        double worst = 0;
        for (Index j = 0; j < b.rows(); j += 1 + b.rows() / 50)
          for (Index i = 0; i < x.rows(); ++i) {
            const auto left = row(x, i), right = row(b, j);
            const double norms =
                std::sqrt(reference::dot(left, left) * reference::dot(right, right));
            const double error = allowed(precision, shape.d) * norms;
            worst =
                std::max(worst, share_of_allowed(out(i, j), {reference::dot(left, right), error}));
          }
        CAPTURE(name_of(precision));
        CAPTURE(shape.d);
        CAPTURE(shape.m);
        CAPTURE(pattern.name);
        CHECK(worst <= 1);
      }
}

TEST_CASE("matmul_nt: the same bits for a row alone and in every height of batch") {
  for (const Precision precision : precisions())
    for (const Shape& shape : kShapes) {
      CAPTURE(name_of(precision));
      const kernels::PackedMatrix b(normal_rows(shape.m, shape.d, 42), precision);
      const Matrix x = normal_rows(kMaxHeight, shape.d, 43), expected = one_by_one(x, b);
      for (const Index height : heights(shape)) {
        // the last rows of x, so that a row is at another place in each height
        const Index begin = kMaxHeight - height;
        const Matrix out = multiply(MatrixView(x).middle_rows(begin, height), b);
        CAPTURE(shape.d);
        CAPTURE(shape.m);
        CAPTURE(height);
        CHECK(different_rows(out, expected, begin) == 0);
      }
    }
}

TEST_CASE("matmul_nt: the same bits at every place") {
  for (const Precision precision : precisions())
    for (const Shape& shape : kShapes) {
      CAPTURE(name_of(precision));
      const kernels::PackedMatrix b(normal_rows(shape.m, shape.d, 44), precision);
      for (const std::uint32_t seed : {45u, 46u}) {
        const Matrix row = normal_rows(1, shape.d, seed);
        const Matrix rows = row.replicate(147, 1);  // 128 + 16 + 3
        const Matrix expected = multiply(row, b).replicate(147, 1);
        CAPTURE(shape.d);
        CAPTURE(shape.m);
        CHECK(different_rows(multiply(rows, b), expected) == 0);
      }
    }
}

TEST_CASE("matmul_nt: the same bits at any address and stride, of x and of b") {
  for (const Precision precision : precisions())
    for (const Shape& shape : kShapes) {
      CAPTURE(name_of(precision));
      const Matrix x = normal_rows(150, shape.d, 47), b = normal_rows(shape.m, shape.d, 48);
      const Matrix expected = multiply(x, kernels::PackedMatrix(b, precision));
      CAPTURE(shape.d);
      CAPTURE(shape.m);
      for (const Index offset : {0, 1, 3})
        for (const Index gap : {0, 1, 16}) {
          const PlacedRows placed_x(x, offset, gap), placed_b(b, offset, gap);
          if (shape.d * shape.m > 200000 && offset != 1) continue;
          CHECK(different_rows(
                    multiply(placed_x.view(), kernels::PackedMatrix(placed_b.view(), precision)),
                    expected) == 0);
        }
    }
}

TEST_CASE("matmul_nt: the same bits from several threads at once") {
  for (const Precision precision : precisions())
    for (const Shape& shape : kShapes) {
      CAPTURE(name_of(precision));
      const kernels::PackedMatrix b(normal_rows(shape.m, shape.d, 49), precision);
      const Matrix x = normal_rows(kMaxHeight, shape.d, 50), expected = multiply(x, b);
      // overlapping blocks of different heights
      constexpr Index kTasks = 12;
      std::vector<Index> different(kTasks);
      const auto task = [&](Index i) {
        const Index begin = i * 13, height = 1 + (i * 37) % (kMaxHeight - begin);
        different[static_cast<std::size_t>(i)] =
            different_rows(multiply(MatrixView(x).middle_rows(begin, height), b), expected, begin);
      };
      CAPTURE(shape.d);
      CAPTURE(shape.m);
      for (const int threads : {1, 4}) {
        different.assign(kTasks, -1);
        parallel_for(kTasks, Exec{threads}, task);
        CHECK(different == std::vector<Index>(kTasks, 0));
      }
      different.assign(kTasks, -1);
      std::vector<std::jthread> threads;
      for (Index t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
          for (Index i = t; i < kTasks; i += 4) task(i);
        });
      threads.clear();
      CHECK(different == std::vector<Index>(kTasks, 0));
    }
}

TEST_CASE("matmul_nt: the same bits wherever b was packed") {
  const Matrix x = normal_rows(20, 342, 51), b = normal_rows(10, 342, 52);
  for (const Precision precision : precisions()) {
    CAPTURE(name_of(precision));
    const Matrix expected = multiply(x, kernels::PackedMatrix(b, precision));
    std::vector<Index> different(4, -1);
    parallel_for(4, Exec{4}, [&](Index i) {
      different[static_cast<std::size_t>(i)] =
          different_rows(multiply(x, kernels::PackedMatrix(b, precision)), expected);
    });
    CHECK(different == std::vector<Index>(4, 0));
  }
}

TEST_CASE("matmul_nt: what is not a number stays in its row") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Precision precision : precisions())
    for (const Shape& shape : {Shape{342, 10}, Shape{37, 7}, Shape{1, 1}, Shape{100, 37}}) {
      CAPTURE(name_of(precision));
      const kernels::PackedMatrix b(normal_rows(shape.m, shape.d, 53), precision);
      const Matrix clean = normal_rows(149, shape.d, 54), expected = multiply(clean, b);
      for (const Index row : {0, 127, 128, 143, 144, 148})
        for (const float bad : {std::nanf(""), infinity, -infinity}) {
          Matrix x = clean;
          x(row, shape.d / 2) = bad;
          const Matrix out = multiply(x, b);
          CHECK(out.row(row).array().isFinite().count() == 0);
          CHECK(different_rows(out, expected) == 1);
        }
    }
}

TEST_CASE("matmul_nt: errors of bfloat16 that add up reach the bound and keep to it") {
  // Entries that lose most where they are rounded, always in the same direction: 1 + 2^-8 lies in the middle
  // of two numbers of bfloat16, and 2^-8 - 1.5 2^-16 in the middle of two that are 2^-16 apart
  struct Worst {
    Precision precision;
    float entry;
  };
  for (const Worst& worst : {Worst{Precision::bfloat16, 1 + 0x1p-8f},
                             Worst{Precision::bfloat16x3, 1 + 0x1p-8f - 1.5f * 0x1p-16f}})
    for (const Index d : {1, 2, 15}) {
      CAPTURE(name_of(worst.precision));
      CAPTURE(d);
      const Matrix rows = Matrix::Constant(4, d, worst.entry);
      const kernels::PackedMatrix b(rows, worst.precision);
      const Matrix out = multiply(rows, b);
      const double exact = static_cast<double>(d) * static_cast<double>(worst.entry) *
                           static_cast<double>(worst.entry);
      const double share = share_of_allowed(out(3, 2), {exact, allowed(b.precision(), d) * exact});
      CHECK(share <= 1);
      if (b.precision() == worst.precision) CHECK(share > 0.8);
    }
}

TEST_CASE("matmul_nt: bfloat16 at the ends of its range") {
  for (const Precision precision : precisions()) {
    if (precision == Precision::float32) continue;
    CAPTURE(name_of(precision));
    const kernels::PackedMatrix b(Matrix(Matrix::Ones(2, 40)), precision);
    Matrix x = Matrix::Zero(3, 40);
    x.row(0).setConstant(1e-39f);  // 40 of them make no normal number either
    x(1, 7) = 3.38e38f;            // the largest of bfloat16 is 3.3895e38
    x(2, 7) = 3.4e38f;
    const Matrix out = multiply(x, b);
    CHECK(std::abs(out(0, 0)) <= 40 * 0x1p-123f * 2);
    CHECK(out(1, 0) == doctest::Approx(3.38e38).epsilon(0x1p-8));
    CHECK(!std::isfinite(out(2, 0)));
  }
}

TEST_CASE("available: bfloat16 where the instruction set has it, and float32 bits where not") {
  const std::string backend = kernels::matmul_backend();
  const bool units = kernels::simd_target().starts_with("AVX3") &&
                     (backend.ends_with("(AVX-512 BF16)") || backend.ends_with("(AMX)"));
  const Matrix x = normal_rows(20, 342, 58), b = normal_rows(10, 342, 59);
  const kernels::PackedMatrix plain(b);
  CHECK(plain.precision() == Precision::float32);
  CHECK(kernels::available(Precision::float32) == Precision::float32);
  for (const Precision precision : {Precision::bfloat16x3, Precision::bfloat16, Precision::tf32}) {
    const bool has = units && precision != Precision::tf32;  // which is for GPUs
    CHECK(kernels::available(precision) == (has ? precision : Precision::float32));
    const kernels::PackedMatrix packed(b, precision);
    CHECK(packed.precision() == kernels::available(precision));
    CHECK(packed.rows() == 10);
    CHECK(packed.cols() == 342);
    CHECK((different_rows(multiply(x, packed), multiply(x, plain)) == 0) == !has);
  }
}

TEST_CASE("matmul_nt: no rows, nothing packed, a copy") {
  const Matrix b = normal_rows(7, 37, 55), x = normal_rows(5, 37, 56);
  const kernels::PackedMatrix packed(b), copy = packed;
  CHECK(packed.rows() == 7);
  CHECK(packed.cols() == 37);
  CHECK(different_rows(multiply(x, copy), multiply(x, packed)) == 0);
  const Matrix none = multiply(MatrixView(nullptr, 0, 37), packed);
  CHECK(none.rows() == 0);
  CHECK(none.cols() == 7);

  const kernels::PackedMatrix nothing;
  CHECK(nothing.rows() == 0);
  CHECK(nothing.cols() == 0);
  CHECK(multiply(MatrixView(nullptr, 3, 0), nothing).size() == 0);
}

TEST_CASE("matmul_nt: memory is allocated where vectors have fewer than 16 floats, and says so") {
  // more than one panel of columns, and sums in one part, and in several
  for (const Shape& shape : kShapes) {
    CAPTURE(shape.d);
    CAPTURE(shape.m);
    const bool allocates = kernels::PackedMatrix(normal_rows(shape.m, shape.d, 57)).allocates();
    if (kernels::matmul_backend().find("AVX-512") == std::string::npos)
      CHECK(allocates);
    else if (allocates)  // right, and slower for single rows: its sums have an order of their own
      MESSAGE("oneDNN makes the products here, which allocate: " << kernels::matmul_backend());
  }
}

TEST_CASE("matmul_nt: wrong sizes") {
  Matrix out;
  CHECK_THROWS_WITH_AS(
      kernels::matmul_nt(normal_rows(2, 3, 1), kernels::PackedMatrix(normal_rows(4, 5, 1)), out),
      "matmul_nt: x has 3 columns, expected 5 as b has", std::invalid_argument);
}
