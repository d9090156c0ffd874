/// Fitting is a few reductions: reduce(source, accumulator) runs the same on one thread, on all
/// cores, on a file larger than memory, and on a cluster.
#pragma once

#include <algorithm>
#include <concepts>
#include <vector>

#include "ood/batch.h"
#include "ood/exec.h"
#include "ood/fields.h"
#include "ood/stream.h"

namespace ood {

/// A summary of rows that can be built piece by piece. A default-made one stands for no rows.
///   inputs()      what it reads of a batch
///   add(batch)    takes rows in
///   merge(other)  takes in what another one summarised; `other` holds later rows. One that takes long has
///                 merge(other, exec) too, which gives the same bits on any number of threads
///   visit(v)      shows its fields, by which ood/serialize.h writes it to bytes and back
template <class A>
concept Accumulator = std::copyable<A> &&
    requires(A a, const A& other, const Batch& batch, FieldVisitor& visitor) {
  { other.inputs() } -> std::convertible_to<Inputs>;
  a.add(batch);
  a.merge(other);
  a.visit(visitor);
};

/// Rows that are accumulated together. A fixed number, so that a result does not depend on how rows
/// were cut into batches or how many threads there were: blocks are summarised each on its own and
/// merged in their order.
inline constexpr Index kBlockRows = 4096;

/// Cuts a stream of batches anew into groups of whole blocks of kBlockRows rows (the last may be
/// shorter). Rows are copied only where the batches of the source do not line up.
class BlockCutter {
 public:
  /// Groups have up to `blocks` blocks where the batches are smaller; visit gets them in order.
  BlockCutter(const SourceInfo& info, const Inputs& wanted, Index blocks,
              std::function<void(const Batch&)> visit);

  void add(const Batch& batch);
  /// Hands on the rows that still wait.
  void flush();

 private:
  SourceInfo info_;
  BatchBuffer pending_;
  Inputs wanted_;
  Index blocks_;
  std::function<void(const Batch&)> visit_;
};

/// Summarises all rows of `source`, in one pass. `empty` carries the settings of the accumulator
/// and no rows. The same bits for any number of threads and any size of batches. Errors: those of
/// stream() and of the accumulator.
template <Accumulator A>
A reduce(BatchSource& source, const A& empty, const Exec& exec = {}) {
  A total = empty;
  const Index threads = thread_count(exec);
  // Kept from one group to the next: their memory is used again
  const Index most = std::min(threads, (source.info().rows + kBlockRows - 1) / kBlockRows);
  std::vector<A> parts(static_cast<std::size_t>(most), empty);
  BlockCutter cutter(source.info(), empty.inputs(), threads, [&](const Batch& group) {
    const Index rows = group.rows(), blocks = (rows + kBlockRows - 1) / kBlockRows;
    for (Index first = 0; first < blocks; first += threads) {
      const Index count = std::min(threads, blocks - first);
      parallel_for(count, exec, [&](Index i) {
        const Index begin = (first + i) * kBlockRows;
        A& part = parts[static_cast<std::size_t>(i)];
        part = empty;
        part.add(group.slice(begin, std::min(kBlockRows, rows - begin)));
      });
      for (Index i = 0; i < count; ++i) {
        const A& part = parts[static_cast<std::size_t>(i)];
        if constexpr (requires { total.merge(part, exec); }) {
          total.merge(part, exec);
        } else {
          total.merge(part);
        }
      }
    }
  });
  stream(source, empty.inputs(), exec, [&](const Batch& batch) { cutter.add(batch); });
  cutter.flush();
  return total;
}

}  // namespace ood
