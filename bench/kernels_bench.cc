// Each kernel is followed by its naive version on the same data.
#include <benchmark/benchmark.h>

#include <array>
#include <numeric>

#include "interleaved.h"
#include "naive.h"
#include "ood/accumulators/class_moments.h"
#include "ood/kernels.h"
#include "ood/reduce.h"
#include "random_rows.h"

using namespace ood;
using namespace ood::bench;

namespace {

constexpr float kGamma = 0.1f;
constexpr Index kTop = 100;
constexpr std::array<double, 2> kOrders = {2.5, 5.0 / 3};

/// The matrix of the last shape asked for: large ones take longer to make than to reduce.
const Matrix& rows_of_shape(const benchmark::State& state) {
  static Matrix x;
  if (x.rows() != state.range(0) || x.cols() != state.range(1))
    x = normal_rows(state.range(0), state.range(1));
  return x;
}

/// items = rows; bytes = what is read.
void count_rows(benchmark::State& state, const Matrix& x) {
  state.SetItemsProcessed(state.iterations() * x.rows());
  state.SetBytesProcessed(state.iterations() * x.size() * Index{sizeof(float)});
}

void count_flops(benchmark::State& state, Index flops) {
  state.counters["flops"] =
      benchmark::Counter(static_cast<double>(flops), benchmark::Counter::kIsIterationInvariantRate);
}

std::vector<std::int64_t> cycling_labels(Index rows, Index classes) {
  std::vector<std::int64_t> labels(static_cast<std::size_t>(rows));
  for (Index i = 0; i < rows; ++i) labels[static_cast<std::size_t>(i)] = i % classes;
  return labels;
}

// --- Rows ---------------------------------------------------------------------------------------

template <class Kernel>
void reduce_rows(benchmark::State& state, const Kernel& kernel) {
  const Matrix& x = rows_of_shape(state);
  std::vector<float> out(static_cast<std::size_t>(x.rows()));
  for (auto _ : state) {
    kernel(x, out);
    benchmark::ClobberMemory();
  }
  count_rows(state, x);
}

void logit_shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({50000, 1000})
      ->Args({10000, 100})
      ->Args({10000, 10})
      ->Unit(benchmark::kMicrosecond);
}
void feature_shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({4096, 2048})->Args({4096, 342})->Unit(benchmark::kMicrosecond);
}

void row_max(benchmark::State& state) { reduce_rows(state, kernels::row_max); }
void row_max_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::max);
  });
}
BENCHMARK(row_max)->Apply(logit_shapes);
BENCHMARK(row_max_naive)->Apply(logit_shapes);

void row_log_sum_exp(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    kernels::row_log_sum_exp(x, 1, out);
  });
}
void row_log_sum_exp_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::log_sum_exp);
  });
}
BENCHMARK(row_log_sum_exp)->Apply(logit_shapes);
BENCHMARK(row_log_sum_exp_naive)->Apply(logit_shapes);

void row_log_max_probability(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    kernels::row_log_max_probability(x, 1, out);
  });
}
void row_log_max_probability_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::max_probability);
  });
}
BENCHMARK(row_log_max_probability)->Apply(logit_shapes);
BENCHMARK(row_log_max_probability_naive)->Apply(logit_shapes);

void row_log_odds(benchmark::State& state) {
  reduce_rows(state,
              [](const MatrixView& x, std::span<float> out) { kernels::row_log_odds(x, 1, out); });
}
void row_log_odds_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::log_odds);
  });
}
BENCHMARK(row_log_odds)->Apply(logit_shapes);
BENCHMARK(row_log_odds_naive)->Apply(logit_shapes);

void row_distance_from_uniform(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    kernels::row_distance_from_uniform(x, 1, out);
  });
}
void row_distance_from_uniform_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::distance_from_uniform);
  });
}
BENCHMARK(row_distance_from_uniform)->Apply(logit_shapes);
BENCHMARK(row_distance_from_uniform_naive)->Apply(logit_shapes);

void row_negative_gini(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    kernels::row_negative_gini(x, 1, out);
  });
}
void row_negative_gini_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::negative_gini);
  });
}
BENCHMARK(row_negative_gini)->Apply(logit_shapes);
BENCHMARK(row_negative_gini_naive)->Apply(logit_shapes);

void row_divergence_from_uniform(benchmark::State& state) {
  reduce_rows(state, kernels::row_divergence_from_uniform);
}
void row_divergence_from_uniform_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::divergence_from_uniform);
  });
}
BENCHMARK(row_divergence_from_uniform)->Apply(logit_shapes);
BENCHMARK(row_divergence_from_uniform_naive)->Apply(logit_shapes);

void row_negative_entropy(benchmark::State& state) {
  reduce_rows(state, kernels::row_negative_entropy);
}
void row_negative_entropy_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::negative_entropy);
  });
}
BENCHMARK(row_negative_entropy)->Apply(logit_shapes);
BENCHMARK(row_negative_entropy_naive)->Apply(logit_shapes);

void row_generalized_entropy(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    kernels::row_generalized_entropy(x, kGamma, kTop, out);
  });
}
void row_generalized_entropy_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, [](naive::Row row) {
      return naive::generalized_entropy(row, kGamma, static_cast<std::size_t>(kTop));
    });
  });
}
BENCHMARK(row_generalized_entropy)->Apply(logit_shapes);
BENCHMARK(row_generalized_entropy_naive)->Apply(logit_shapes);

void row_kth_largest(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    kernels::row_kth_largest(x, x.cols() / 10, out);
  });
}
void row_kth_largest_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out,
                    [](naive::Row row) { return naive::kth_largest(row, row.size() / 10); });
  });
}
BENCHMARK(row_kth_largest)->Apply(feature_shapes);
BENCHMARK(row_kth_largest_naive)->Apply(feature_shapes);

void row_sum_above(benchmark::State& state) {
  const std::vector<float> t(static_cast<std::size_t>(state.range(0)), 1);
  std::vector<double> sums(t.size());
  reduce_rows(state,
              [&](const MatrixView& x, std::span<float>) { kernels::row_sum_above(x, t, sums); });
}
void row_sum_above_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out,
                    [](naive::Row row) { return static_cast<float>(naive::sum_above(row, 1)); });
  });
}
BENCHMARK(row_sum_above)->Apply(feature_shapes);
BENCHMARK(row_sum_above_naive)->Apply(feature_shapes);

void row_sum_of_absolutes(benchmark::State& state) {
  reduce_rows(state, kernels::row_sum_of_absolutes);
}
void row_sum_of_absolutes_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, naive::sum_of_absolutes);
  });
}
BENCHMARK(row_sum_of_absolutes)->Apply(feature_shapes);
BENCHMARK(row_sum_of_absolutes_naive)->Apply(feature_shapes);

void row_norms(benchmark::State& state) {
  Matrix norms;
  reduce_rows(
      state, [&](const MatrixView& x, std::span<float>) { kernels::row_norms(x, kOrders, norms); });
}
void row_norms_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float> out) {
    for (const double order : kOrders)
      naive::each_row(
          x, out, [order](naive::Row row) { return naive::norm(row, static_cast<float>(order)); });
  });
}
BENCHMARK(row_norms)->Apply(feature_shapes);
BENCHMARK(row_norms_naive)->Apply(feature_shapes);

void normalize_rows(benchmark::State& state) {
  Matrix unit;
  reduce_rows(state,
              [&](const MatrixView& x, std::span<float>) { kernels::normalize_rows(x, unit); });
}
void normalize_rows_naive(benchmark::State& state) {
  Matrix unit;
  reduce_rows(state,
              [&](const MatrixView& x, std::span<float>) { unit = x.rowwise().normalized(); });
}
BENCHMARK(normalize_rows)->Apply(feature_shapes);
BENCHMARK(normalize_rows_naive)->Apply(feature_shapes);

void row_dot_selected(benchmark::State& state) {
  const Matrix b = normal_rows(10, state.range(1), 2);
  const auto labels = cycling_labels(state.range(0), 10);
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    kernels::row_dot_selected(x, b, labels, out);
  });
}
void row_dot_selected_naive(benchmark::State& state) {
  const Matrix b = normal_rows(10, state.range(1), 2);
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    for (Index i = 0; i < x.rows(); ++i)
      out[static_cast<std::size_t>(i)] = x.row(i).dot(b.row(i % 10));
  });
}
BENCHMARK(row_dot_selected)->Apply(feature_shapes);
BENCHMARK(row_dot_selected_naive)->Apply(feature_shapes);

void row_squared_distance_selected(benchmark::State& state) {
  const Matrix b = normal_rows(10, state.range(1), 2);
  const auto labels = cycling_labels(state.range(0), 10);
  const std::vector<Index> rows(labels.begin(), labels.end());
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    kernels::row_squared_distance_selected(x, b, rows, out);
  });
}
void row_squared_distance_selected_naive(benchmark::State& state) {
  const Matrix b = normal_rows(10, state.range(1), 2);
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    for (Index i = 0; i < x.rows(); ++i)
      out[static_cast<std::size_t>(i)] = (x.row(i) - b.row(i % 10)).squaredNorm();
  });
}
BENCHMARK(row_squared_distance_selected)->Apply(feature_shapes);
BENCHMARK(row_squared_distance_selected_naive)->Apply(feature_shapes);

void row_absolute_distance_selected(benchmark::State& state) {
  const Matrix b = normal_rows(10, state.range(1), 2);
  const auto labels = cycling_labels(state.range(0), 10);
  const std::vector<Index> rows(labels.begin(), labels.end());
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    kernels::row_absolute_distance_selected(x, b, rows, out);
  });
}
void row_absolute_distance_selected_naive(benchmark::State& state) {
  const Matrix b = normal_rows(10, state.range(1), 2);
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    for (Index i = 0; i < x.rows(); ++i)
      out[static_cast<std::size_t>(i)] = (x.row(i) - b.row(i % 10)).lpNorm<1>();
  });
}
BENCHMARK(row_absolute_distance_selected)->Apply(feature_shapes);
BENCHMARK(row_absolute_distance_selected_naive)->Apply(feature_shapes);

void find_nonfinite(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float>) {
    benchmark::DoNotOptimize(kernels::find_nonfinite(x));
  });
}
void find_nonfinite_naive(benchmark::State& state) {
  reduce_rows(state, [](const MatrixView& x, std::span<float>) {
    benchmark::DoNotOptimize(x.allFinite());
  });
}
BENCHMARK(find_nonfinite)->Apply(feature_shapes);
BENCHMARK(find_nonfinite_naive)->Apply(feature_shapes);

// --- Products: n, d, m --------------------------------------------------------------------------

void product_shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({4096, 342, 10})
      ->Args({4096, 342, 100})
      ->Args({1024, 2048, 1000})
      ->Unit(benchmark::kMicrosecond);
}

template <class Product>
void multiply(benchmark::State& state, const Product& product) {
  const Matrix& x = rows_of_shape(state);
  const Index m = state.range(2);
  Matrix out(x.rows(), m);
  for (auto _ : state) {
    product(x, out);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * x.rows());
  count_flops(state, 2 * x.size() * m);
}

void matmul_nt(benchmark::State& state) {
  const kernels::PackedMatrix b(normal_rows(state.range(2), state.range(1), 2));
  multiply(state, [&](const Matrix& x, Matrix& out) { kernels::matmul_nt(x, b, out); });
}
void matmul_nt_naive(benchmark::State& state) {
  const Matrix b = normal_rows(state.range(2), state.range(1), 2);
  multiply(state, [&](const Matrix& x, Matrix& out) { out.noalias() = x * b.transpose(); });
}
BENCHMARK(matmul_nt)->Apply(product_shapes);
BENCHMARK(matmul_nt_naive)->Apply(product_shapes);

// --- Epilogues on a tile ------------------------------------------------------------------------

void tile_shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({kernels::kTileRows, 1000})
      ->Args({kernels::kTileRows, 100})
      ->Args({kernels::kTileRows, 10});
  benchmark->Unit(benchmark::kMicrosecond);
}

void row_max_affine(benchmark::State& state) {
  const auto offset = normal_rows(1, state.range(1), 3);
  const std::span<const float> offsets(offset.data(), static_cast<std::size_t>(offset.size()));
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    kernels::row_max_affine(x, 2, offsets, out);
  });
}
void row_max_affine_naive(benchmark::State& state) {
  const auto offset = normal_rows(1, state.range(1), 3);
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, [&](naive::Row row) {
      return naive::max_affine(row, 2, naive::row_of(offset, 0));
    });
  });
}
BENCHMARK(row_max_affine)->Apply(tile_shapes);
BENCHMARK(row_max_affine_naive)->Apply(tile_shapes);

void row_log_sum_exp_affine(benchmark::State& state) {
  const auto offset = normal_rows(1, state.range(1), 3);
  const std::vector<float> scale(static_cast<std::size_t>(state.range(0)), 2);
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    kernels::row_log_sum_exp_affine(x, scale, naive::row_of(offset, 0), out);
  });
}
void row_log_sum_exp_affine_naive(benchmark::State& state) {
  const auto offset = normal_rows(1, state.range(1), 3);
  reduce_rows(state, [&](const MatrixView& x, std::span<float> out) {
    naive::each_row(x, out, [&](naive::Row row) {
      return naive::log_sum_exp_affine(row, 2, naive::row_of(offset, 0));
    });
  });
}
BENCHMARK(row_log_sum_exp_affine)->Apply(tile_shapes);
BENCHMARK(row_log_sum_exp_affine_naive)->Apply(tile_shapes);

void column_log_sum_exp(benchmark::State& state) {
  const std::vector<float> scale(static_cast<std::size_t>(state.range(0)), 2),
      shift(scale.size(), -1);
  std::vector<double> max(static_cast<std::size_t>(state.range(1)), -1e300), sum(max.size(), 0),
      squares(max.size(), 0);
  reduce_rows(state, [&](const MatrixView& x, std::span<float>) {
    kernels::column_log_sum_exp(x, scale, shift, max, sum, squares);
  });
}
void column_log_sum_exp_naive(benchmark::State& state) {
  const std::vector<float> scale(static_cast<std::size_t>(state.range(0)), 2),
      shift(scale.size(), -1);
  std::vector<double> sums(static_cast<std::size_t>(state.range(1)));
  reduce_rows(state, [&](const MatrixView& x, std::span<float>) {
    naive::column_log_sum_exp(x, scale, shift, sums);
  });
}
BENCHMARK(column_log_sum_exp)->Apply(tile_shapes);
BENCHMARK(column_log_sum_exp_naive)->Apply(tile_shapes);

// --- Second moments in float64 ------------------------------------------------------------------

void scatter_shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({4096, 342})->Args({1024, 2048})->Unit(benchmark::kMillisecond);
}

/// flops: a product and a sum for each row and entry of the lower triangle.
template <class Add>
void scatter(benchmark::State& state, const Add& add) {
  const Index d = state.range(1);
  MatrixD sums = MatrixD::Zero(d, d);
  for (auto _ : state) {
    add(sums);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  count_flops(state, state.range(0) * d * (d + 1));
}

void add_scatter(benchmark::State& state) {
  const MatrixD y = rows_of_shape(state).cast<double>();
  scatter(state, [&](MatrixD& sums) { kernels::add_scatter(y, sums); });
}
void add_scatter_naive(benchmark::State& state) {
  const MatrixD y = rows_of_shape(state).cast<double>();
  scatter(state,
          [&](MatrixD& sums) { sums.selfadjointView<Eigen::Lower>().rankUpdate(y.transpose()); });
}
BENCHMARK(add_scatter)->Apply(scatter_shapes);
BENCHMARK(add_scatter_naive)->Apply(scatter_shapes);

void add_centered_scatter(benchmark::State& state) {
  const Matrix& x = rows_of_shape(state);
  const MatrixD centers = normal_rows(10, x.cols(), 2).cast<double>();
  const auto labels = cycling_labels(x.rows(), 10);
  const std::vector<Index> center(labels.begin(), labels.end());
  scatter(state, [&](MatrixD& sums) { kernels::add_centered_scatter(x, centers, center, sums); });
}
void add_centered_scatter_naive(benchmark::State& state) {
  const Matrix& x = rows_of_shape(state);
  const MatrixD centers = normal_rows(10, x.cols(), 2).cast<double>();
  scatter(state, [&](MatrixD& sums) {
    MatrixD y = x.cast<double>();
    for (Index i = 0; i < y.rows(); ++i) y.row(i) -= centers.row(i % 10);
    sums.selfadjointView<Eigen::Lower>().rankUpdate(y.transpose());
  });
}
BENCHMARK(add_centered_scatter)->Apply(scatter_shapes);
BENCHMARK(add_centered_scatter_naive)->Apply(scatter_shapes);

// Class moments of n rows beside the bare float32 product X^T X, which has twice the flops and no care
// for accuracy. The two take turns; products: how many times its processor time the moments take.
void class_moments(benchmark::State& state) {
  const Matrix& x = rows_of_shape(state);
  const Index n = state.range(0), d = state.range(1), classes = state.range(2);
  const auto labels = cycling_labels(n, classes);
  Batch rows;
  rows.features = x;
  rows.labels = labels;
  MemorySource source(rows);
  const Matrix transposed = x.transpose();
  const kernels::PackedMatrix packed(transposed);
  Matrix gram(d, d);
  std::vector<double> ratios;
  for (auto _ : state) {
    const double product = seconds([&] { kernels::matmul_nt(transposed, packed, gram); });
    const double moments = seconds([&] {
      benchmark::DoNotOptimize(reduce(source, ClassMoments(classes, d), Exec{.threads = 1}));
    });
    state.SetIterationTime(moments);
    ratios.push_back(moments / product);
  }
  state.SetItemsProcessed(state.iterations() * n);
  count_flops(state, n * d * (d + 1));
  state.counters["products"] = median(ratios);
}
BENCHMARK(class_moments)
    ->Args({40960, 342, 10})
    ->Args({40960, 342, 100})
    ->Args({40960, 2048, 1000})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace
