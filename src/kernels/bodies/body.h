/// Kernels that are one source for the processor and for GPUs: bodies, which say what happens to one
/// entry or to one row, and lanes, which work on a row together.
///
/// A body is a struct of plain data (pointers, shapes, options) with one of
///
///   void operator()(Index i) const                                       entry i
///   template <class Lanes> void operator()(Index row, const Lanes& lanes) const   row `row`
///
/// Those of rows are written from the side of all lanes: what lanes have to tell each other goes through
/// reduce(), sum(), ..., and what stands between those calls is the same on each lane. So a body has the
/// same meaning for one lane, for eight that a compiler makes vectors of, and for the 32 of a GPU, and
/// tests run it with 32 on the processor. Sums run in as many partial sums as there are lanes, which are
/// added up as a tree.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "ood/matrix.h"

#ifdef __CUDACC__
#define OOD_BODY __host__ __device__
#else
#define OOD_BODY
#endif

namespace ood::kernels {

/// Rows as bodies take them.
template <class T>
struct RowsOf {
  T* data;
  Index stride, rows, cols;
  OOD_BODY T* row(Index i) const { return data + i * stride; }
};
using FloatRows = RowsOf<const float>;
using FloatRowsOut = RowsOf<float>;

inline FloatRows rows_in(const MatrixView& x) {
  return {x.data(), x.outerStride(), x.rows(), x.cols()};
}
inline FloatRowsOut rows_out(MatrixMap x) { return {x.data(), x.cols(), x.rows(), x.cols()}; }

namespace bodies {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kLowest = std::numeric_limits<float>::lowest();

/// `a` where it is greater, else `b`: a NaN on the left is dropped.
template <class T>
OOD_BODY T larger(T a, T b) {
  return a > b ? a : b;
}
template <class T>
OOD_BODY T smaller(T a, T b) {
  return a < b ? a : b;
}
OOD_BODY inline bool is_finite(float x) { return x - x == 0.0f; }
OOD_BODY inline bool is_finite(double x) { return x - x == 0.0; }

}  // namespace bodies

/// What is the same however lanes talk: everything is made of reduce().
template <class Own>
struct LanesOf {
  template <class T, class Term>
  OOD_BODY T sum(Index n, Term term) const {
    return self().reduce(
        n, T(0), [&](T& own, Index j) { own += term(j); },
        [](T& own, const T& other) { own += other; });
  }
  /// The largest term that is not NaN; `none` if there is no term above it.
  template <class T, class Term>
  OOD_BODY T max(Index n, T none, Term term) const {
    return self().reduce(
        n, none, [&](T& own, Index j) { own = bodies::larger(T(term(j)), own); },
        [](T& own, const T& other) { own = bodies::larger(other, own); });
  }
  /// The first j with a true predicate; n if there is none.
  template <class Predicate>
  OOD_BODY Index first(Index n, Predicate predicate) const {
    return self().reduce(
        n, n,
        [&](Index& own, Index j) {
          if (j < own && predicate(j)) own = j;
        },
        [](Index& own, const Index& other) { own = bodies::smaller(own, other); });
  }
  template <class Predicate>
  OOD_BODY Index count(Index n, Predicate predicate) const {
    return sum<Index>(n, [&](Index j) { return Index(predicate(j) ? 1 : 0); });
  }
  /// 0 if all entries are finite, else NaN.
  OOD_BODY float poison(const float* row, Index n) const {
    return sum<float>(n, [&](Index j) { return row[j] * 0.0f; });
  }

 private:
  OOD_BODY const Own& self() const { return static_cast<const Own&>(*this); }
};

/// Lanes that one thread of the processor plays.
template <int kLanes>
struct HostLanes : LanesOf<HostLanes<kLanes>> {
  /// From `start` in each lane, step(own, j) for each j in [0, n), each in one lane; then
  /// merge(own, other), neighbours last. The result is known to all lanes.
  template <class State, class Step, class Merge>
  State reduce(Index n, State start, Step step, Merge merge) const {
    State own[kLanes];
    for (State& state : own) state = start;
    Index j = 0;
    for (; j + kLanes <= n; j += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) step(own[lane], j + lane);
    for (int lane = 0; j < n; ++j, ++lane) step(own[lane], j);
    for (int half = kLanes / 2; half > 0; half /= 2)
      for (int lane = 0; lane < half; ++lane) merge(own[lane], own[lane + half]);
    return own[0];
  }
  /// work(j) for each j in [0, n), on any lane; done when it returns.
  template <class Work>
  void each(Index n, Work work) const {
    for (Index j = 0; j < n; ++j) work(j);
  }
  /// On one lane.
  template <class Work>
  void once(Work work) const {
    work();
  }
};

/// Runs a body on the calling thread.
template <int kLanes, class Body>
void run_on_host(const Body& body, Index count) {
  for (Index i = 0; i < count; ++i) {
    if constexpr (requires { body(i); })
      body(i);
    else
      body(i, HostLanes<kLanes>());
  }
}

/// Starts a body on the stream of the current CUDA device. Instantiated in src/kernels/cuda/*.cu, and in
/// src/kernels/cuda/stub.cc where there is no CUDA; each file of bodies ends with their list.
template <class Body>
void launch_on_cuda(const Body& body, Index count, void* stream);

}  // namespace ood::kernels
