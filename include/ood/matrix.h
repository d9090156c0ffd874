/// Matrices and views: the vocabulary of everything else.
#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <xtensor/xadapt.hpp>
#include <xtensor/xtensor.hpp>
#include <xtensor/xview.hpp>

namespace ood {

using Index = Eigen::Index;

/// Owned, row-major float32: one row for each sample.
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXf;

/// Statistics are accumulated in float64.
using MatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using VectorD = Eigen::VectorXd;

/// The same in somebody else's memory, to be written to; ood/scratch.h makes them.
using MatrixMap = Eigen::Map<Matrix>;
using MatrixDMap = Eigen::Map<MatrixD>;
using VectorDMap = Eigen::Map<VectorD>;

/// A read-only view of rows in somebody else's memory: entries of a row lie side by side, rows may
/// be any distance apart (`outerStride`, in floats). An Eigen expression; copying it rebinds, never
/// copies data.
class MatrixView : public Eigen::Map<const Matrix, Eigen::Unaligned, Eigen::OuterStride<>> {
 public:
  using Map = Eigen::Map<const Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;

  MatrixView() : MatrixView(nullptr, 0, 0) {}
  MatrixView(const float* data, Index rows, Index cols, Index stride)
      : Map(data, rows, cols, Eigen::OuterStride<>(stride)) {}
  MatrixView(const float* data, Index rows, Index cols) : MatrixView(data, rows, cols, cols) {}
  MatrixView(const Matrix& matrix)  // NOLINT: a matrix is a view of itself
      : MatrixView(matrix.data(), matrix.rows(), matrix.cols()) {}
  MatrixView(const MatrixMap& matrix)  // NOLINT
      : MatrixView(matrix.data(), matrix.rows(), matrix.cols()) {}
  MatrixView(const MatrixView&) = default;
  MatrixView& operator=(const MatrixView& other) {
    new (this) MatrixView(other);  // how Eigen rebinds a Map
    return *this;
  }

  const float* row_data(Index row) const { return data() + row * outerStride(); }
  MatrixView middle_rows(Index begin, Index count) const {
    return {row_data(begin), count, cols(), outerStride()};
  }
};

/// Owned and viewed rank-3 arrays, for several copies of an output: [K, n, D].
using Tensor3 = xt::xtensor<float, 3>;
using Tensor3View = decltype(xt::adapt(
    std::declval<const float*>(), std::size_t{}, xt::no_ownership(),
    std::declval<std::array<std::size_t, 3>>(), std::declval<std::array<std::ptrdiff_t, 3>>()));

/// Class labels, one for each row, in [0, C).
using Labels = std::span<const std::int64_t>;

}  // namespace ood
