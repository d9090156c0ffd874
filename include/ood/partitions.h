/// Rows that lie in several places, on the machines of a cluster: fits on them are those on one machine.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "ood/batch.h"

namespace ood {

/// What a cluster carries between machines.
using Bytes = std::vector<std::byte>;

/// One pass of a fit, reduce(source, empty), in pieces that can be done in different places. All that it
/// carries are summaries of consecutive blocks (MergeTree), as bytes.
class Reduction {
 public:
  virtual ~Reduction() = default;
  /// What it reads of a batch.
  virtual Inputs inputs() const = 0;
  /// The summary of the rows that the source holds at this time. Errors: those of stream().
  virtual Bytes accumulate() const = 0;
  /// Of summaries of consecutive rows, in their order. Throws std::invalid_argument if one does not follow the
  /// one before it.
  virtual Bytes merge(std::span<const std::span<const std::byte>> parts) const = 0;
};

/// What BatchSource::partitions() is of rows that lie in several places.
class Partitions {
 public:
  virtual ~Partitions() = default;
  /// The rows that a pass yields now: `count` from `first` on.
  struct Held {
    Index first = 0;
    Index count = 0;
  };
  virtual Held held() const = 0;
  /// The summary of all rows, by way of accumulate() where they are.
  virtual Bytes reduce(const Reduction& reduction) = 0;
};

/// A source of rows of which this process has some, one partition at a time, or none.
///
/// Where a fit is to run on many machines, each runs it, with one of these in place of the rows. At each pass the
/// fit calls `reduce`: of one machine, that deals out partitions to the others and returns the merged
/// summary; of the others, it summarises what it is dealt, by accumulate(), until it is told the merged summary,
/// and returns that too. So all have the same state at each pass, and no fit knows of it.
///
/// The result has the same bits as that of one machine, however rows are cut into partitions, where each begins
/// at a whole block (kBlockRows) and all machines have the same instructions (OOD_SIMD).
class PartitionedSource final : public BatchSource, public Partitions {
 public:
  using Reduce = std::function<Bytes(const Reduction&)>;

  /// info: of all rows together. head may be nullptr. Throws std::invalid_argument if they disagree.
  PartitionedSource(SourceInfo info, std::shared_ptr<const Head> head, Reduce reduce);

  /// The summary of rows [first_row, first_row + those of `pieces`), whose pieces are one after the other in
  /// memory or in files. Calls from several threads are done one after the other.
  /// Throws std::invalid_argument, besides, if rows begin or end within a block, if there are more than info() says,
  /// or if a piece has other widths.
  Bytes accumulate(const Reduction& reduction, Index first_row,
                   std::vector<std::shared_ptr<BatchSource>> pieces);

  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return head_.get(); }
  /// The pieces that are held, each checked as in stream(). Throws std::logic_error if none is: what reads rows
  /// by another way than reduce() cannot be done in partitions.
  void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) override;
  Partitions* partitions() override { return this; }
  Held held() const override { return held_; }
  Bytes reduce(const Reduction& reduction) override { return reduce_(reduction); }

 private:
  SourceInfo info_;
  std::shared_ptr<const Head> head_;
  Reduce reduce_;
  std::mutex busy_;
  Held held_;
  std::vector<std::shared_ptr<BatchSource>> pieces_;
};

}  // namespace ood
