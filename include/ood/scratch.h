/// Memory for what a computation needs on its way and nobody needs after it.
#pragma once

#include <cstddef>
#include <memory_resource>
#include <span>

#include "ood/matrix.h"

namespace ood {

class ScratchArena;

/// Buffers of the calling thread, given back where the Scratch ends. The thread keeps their memory, so
/// that work of a kind that it has done before allocates nothing: what its scratches took at one time and
/// what was too small for them on the way, until the thread ends.
///
///   Scratch scratch;
///   MatrixMap dots = scratch.matrix(rows, cols);
///   std::span<float> norms = scratch.span<float>(rows);
///
/// Where the thread's kernels go to a device (Exec::device), the memory is the device's: only kernels may
/// touch it, and a container that writes its entries, as std::pmr::vector does, is for the processor alone.
///
/// Scratches nest as scopes do. Only the innermost gives memory: another throws std::logic_error.
class Scratch final : public std::pmr::memory_resource {
 public:
  Scratch();
  ~Scratch() override;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Without values.
  MatrixMap matrix(Index rows, Index cols) { return {take<float>(rows * cols), rows, cols}; }
  MatrixDMap matrix_d(Index rows, Index cols) { return {take<double>(rows * cols), rows, cols}; }
  VectorDMap vector_d(Index size) { return {take<double>(size), size}; }
  template <class T>
  std::span<T> span(Index size) {
    return {take<T>(size), static_cast<std::size_t>(size)};
  }

 private:
  template <class T>
  T* take(Index count) {
    return static_cast<T*>(do_allocate(static_cast<std::size_t>(count) * sizeof(T), alignof(T)));
  }
  void* do_allocate(std::size_t bytes, std::size_t alignment) override;
  void do_deallocate(void*, std::size_t, std::size_t) override {}  // all at once, in the end
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  ScratchArena& arena_;
  Scratch* outer_;
  std::size_t chunk_, used_;  // what the thread had taken before
};

}  // namespace ood
