/// Fitting is a few reductions: reduce(source, accumulator) runs the same on one thread, on all
/// cores, on a file larger than memory, and on a cluster.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "ood/batch.h"
#include "ood/exec.h"
#include "ood/fields.h"
#include "ood/merge_tree.h"
#include "ood/partitions.h"
#include "ood/stream.h"

namespace ood {

/// A summary of rows that can be built piece by piece. A default-made one stands for no rows.
///   inputs()      what it reads of a batch
///   add(batch)    takes rows in
///   merge(other)  takes in what another one summarised; `other` holds later rows. One that takes long has
///                 merge(other, exec) too, which gives the same bits on any number of threads
///   visit(v)      shows all that add() and merge() change, by which ood/serialize.h writes it to bytes and back: into a copy
///                 of the one that holds no rows, which has the rest
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
/// merged in an order that is fixed too (MergeTree).
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

/// The blocks of the rows that `source` holds, which begin at row `first` and end before row `end`.
template <Accumulator A>
MergeTree<A> reduce_blocks(BatchSource& source, const A& empty, Index first, Index end,
                           const Exec& exec) {
  MergeTree<A> tree(first / kBlockRows);
  const Index threads = thread_count(exec);
  // Kept from one group to the next: their memory is used again
  const Index most = std::min(threads, (end - first + kBlockRows - 1) / kBlockRows);
  std::vector<A> parts(static_cast<std::size_t>(most), empty);
  SourceInfo info = source.info();
  info.rows = end;
  BlockCutter cutter(info, empty.inputs(), threads, [&](const Batch& group) {
    const Index rows = group.rows(), blocks = (rows + kBlockRows - 1) / kBlockRows;
    for (Index begin = 0; begin < blocks; begin += threads) {
      const Index count = std::min(threads, blocks - begin);
      parallel_for(count, exec, [&](Index i) {
        const Index row = (begin + i) * kBlockRows;
        A& part = parts[static_cast<std::size_t>(i)];
        part = empty;
        part.add(group.slice(row, std::min(kBlockRows, rows - row)));
      });
      for (Index i = 0; i < count; ++i)
        tree.add(std::move(parts[static_cast<std::size_t>(i)]), exec);
    }
  });
  stream(source, empty.inputs(), exec, [&](const Batch& batch) { cutter.add(batch); });
  cutter.flush();
  return tree;
}

/// reduce(source, empty) on rows that lie in several places.
template <Accumulator A>
class ReductionOf final : public Reduction {
 public:
  ReductionOf(BatchSource& source, const A& empty, const Exec& exec)
      : source_(source), empty_(empty), exec_(exec) {}

  Inputs inputs() const override { return empty_.inputs(); }

  Bytes accumulate() const override {
    const auto [first, count] = source_.partitions()->held();
    return reduce_blocks(source_, empty_, first, first + count, exec_).to_bytes();
  }

  Bytes merge(std::span<const std::span<const std::byte>> parts) const override {
    auto tree = MergeTree<A>::from_bytes(parts.front(), empty_);
    for (const auto& part : parts.subspan(1))
      tree.append(MergeTree<A>::from_bytes(part, empty_), exec_);
    return tree.to_bytes();
  }

  /// Of the summary of all rows. Throws std::invalid_argument if that is of some only.
  A total(std::span<const std::byte> bytes) const {
    auto tree = MergeTree<A>::from_bytes(bytes, empty_);
    const Index blocks = (source_.info().rows + kBlockRows - 1) / kBlockRows;
    if (tree.first_block() != 0 || tree.end_block() != blocks)
      throw std::invalid_argument(
          "summary of the blocks from " + std::to_string(tree.first_block()) + " to " +
          std::to_string(tree.end_block()) + ", expected all " + std::to_string(blocks));
    return std::move(tree).total(empty_, exec_);
  }

 private:
  BatchSource& source_;
  const A& empty_;
  Exec exec_;
};

/// Summarises all rows of `source`, in one pass. `empty` carries the settings of the accumulator
/// and no rows. The same bits for any number of threads, any size of batches and any partitions of the rows (MergeTree).
/// Errors: those of stream() and of the accumulator.
template <Accumulator A>
A reduce(BatchSource& source, const A& empty, const Exec& exec = {}) {
  if (Partitions* partitions = source.partitions()) {
    const ReductionOf<A> reduction(source, empty, exec);
    return reduction.total(partitions->reduce(reduction));
  }
  return reduce_blocks(source, empty, 0, source.info().rows, exec).total(empty, exec);
}

}  // namespace ood
