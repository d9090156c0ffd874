#include "ood/spectrum.h"

#include <Eigen/Eigenvalues>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ood/random.h"

namespace ood {

namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
using Solver = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>;

Spectrum with_values(const Solver& solver) {
  if (solver.info() != Eigen::Success)
    throw std::domain_error("the second moment has no eigendecomposition, expected finite numbers");
  Spectrum spectrum;
  spectrum.values = solver.eigenvalues().reverse();
  const double cutoff =
      static_cast<double>(spectrum.values.size()) * kEpsilon * std::max(spectrum.values[0], 0.0);
  spectrum.rank = (spectrum.values.array() > cutoff).count();
  if (spectrum.rank > 0)
    spectrum.condition_number = spectrum.values[0] / spectrum.values[spectrum.rank - 1];
  return spectrum;
}

/// T - shift, for a symmetric tridiagonal T, in factors: Gaussian elimination with row exchanges.
class ShiftedTridiagonal {
 public:
  ShiftedTridiagonal(const VectorD& diagonal, const VectorD& beside, double shift, double tiny) {
    const Index n = diagonal.size();
    pivots_.resize(static_cast<std::size_t>(n));
    const auto at = [&](Index i) { return i + 1 < n ? beside[i] : 0.0; };
    double own = diagonal[0] - shift, next = at(0);
    for (Index i = 0; i + 1 < n; ++i) {
      Pivot& pivot = pivots_[static_cast<std::size_t>(i)];
      const double below = beside[i], below_next = diagonal[i + 1] - shift;
      if (std::abs(below) > std::abs(own)) {
        pivot = {below, below_next, at(i + 1), own / below, true};
        own = next - pivot.factor * below_next;
        next = -pivot.factor * at(i + 1);
      } else {
        if (std::abs(own) < tiny) own = tiny;
        pivot = {own, next, 0, below / own, false};
        own = below_next - pivot.factor * next;
        next = at(i + 1);
      }
    }
    pivots_.back() = {std::abs(own) < tiny ? tiny : own, 0, 0, 0, false};
  }

  void solve(VectorD& x) const {
    const Index n = x.size();
    for (Index i = 0; i + 1 < n; ++i) {
      const Pivot& pivot = pivots_[static_cast<std::size_t>(i)];
      if (pivot.exchanged) std::swap(x[i], x[i + 1]);
      x[i + 1] -= pivot.factor * x[i];
    }
    for (Index i = n - 1; i >= 0; --i) {
      const Pivot& pivot = pivots_[static_cast<std::size_t>(i)];
      if (i + 1 < n) x[i] -= pivot.next * x[i + 1];
      if (i + 2 < n) x[i] -= pivot.second * x[i + 2];
      x[i] /= pivot.own;
    }
  }

 private:
  struct Pivot {
    double own, next, second, factor;
    bool exchanged;
  };
  std::vector<Pivot> pivots_;
};

/// Eigenvectors [n, count] of T for its `count` largest eigenvalues, by inverse iteration. Each is
/// kept orthogonal to all before it, so that close and equal eigenvalues get directions of their
/// own. Empty where that did not converge.
Eigen::MatrixXd leading_eigenvectors(const VectorD& diagonal, const VectorD& beside,
                                     const VectorD& values, Index count) {
  const Index n = diagonal.size();
  const double largest = values[0], allowed = 1e-13 * std::sqrt(static_cast<double>(n)) * largest;
  Eigen::MatrixXd vectors(n, count);
  VectorD x(n), product(n);
  for (Index k = 0; k < count; ++k) {
    const ShiftedTridiagonal shifted(diagonal, beside, values[k], kEpsilon * largest);
    fill_normal(0, 0, static_cast<std::uint64_t>(k), {x.data(), static_cast<std::size_t>(n)});
    for (int turn = 0; turn < 3; ++turn) {
      shifted.solve(x);
      x.normalize();
      for (int again = 0; again < 2; ++again)
        x -= vectors.leftCols(k) * (vectors.leftCols(k).transpose() * x);
      x.normalize();
    }
    product = diagonal.cwiseProduct(x) - values[k] * x;
    product.head(n - 1) += beside.cwiseProduct(x.tail(n - 1));
    product.tail(n - 1) += beside.cwiseProduct(x.head(n - 1));
    if (!(product.norm() <= allowed)) return {};
    vectors.col(k) = x;
  }
  return vectors;
}

}  // namespace

Index Spectrum::count_for_share(double share) const {
  const double total = values.sum();
  double sum = 0;
  for (Index count = 0; count < values.size(); ++count) {
    sum += values[count];
    if (sum >= share * total) return count + 1;
  }
  return values.size();
}

Spectrum spectrum_of(const MatrixD& symmetric) {
  const Solver solver(symmetric);
  Spectrum spectrum = with_values(solver);
  spectrum.directions = solver.eigenvectors().rowwise().reverse().transpose();
  return spectrum;
}

Spectrum leading_spectrum(const MatrixD& symmetric,
                          const std::function<Index(const Spectrum&)>& wanted) {
  constexpr Index kSmall = 64;
  const Index n = symmetric.rows();
  if (n >= kSmall && symmetric.allFinite()) {
    const Eigen::Tridiagonalization<Eigen::MatrixXd> reduced(symmetric);
    const VectorD diagonal = reduced.diagonal(), beside = reduced.subDiagonal();
    Solver solver;
    solver.computeFromTridiagonal(diagonal, beside, Eigen::EigenvaluesOnly);
    Spectrum spectrum = with_values(solver);
    const Index count = wanted(spectrum);
    if (spectrum.values[0] > 0 && 4 * count <= n) {
      const Eigen::MatrixXd vectors =
          leading_eigenvectors(diagonal, beside, spectrum.values, count);
      if (vectors.cols() == count) {
        spectrum.directions = (reduced.matrixQ() * vectors).transpose();
        return spectrum;
      }
    }
  }
  Spectrum spectrum = spectrum_of(symmetric);
  spectrum.directions = spectrum.directions.topRows(wanted(spectrum)).eval();
  return spectrum;
}

}  // namespace ood
