/// Rows that are reached in partitions alone, as on a cluster, in one process.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "ood/partitions.h"

namespace ood::test {

/// Rows cut at `cuts` (row numbers), summarised one by one, and merged by twos, later ones first.
inline Bytes reduce_in(const Reduction& reduction, PartitionedSource& source, const Batch& rows,
                       const Head* head, const std::vector<Index>& cuts) {
  std::vector<Bytes> parts;
  Index first = 0;
  std::vector<Index> ends = cuts;
  ends.push_back(source.info().rows);
  for (const Index end : ends) {
    std::vector<std::shared_ptr<BatchSource>> pieces;  // two of them, cut anywhere
    const Index middle = first + (end - first) / 3;
    for (const auto& [from, to] : {std::pair(first, middle), std::pair(middle, end)})
      if (to > from)
        pieces.push_back(std::make_shared<MemorySource>(rows.slice(from, to - from), head, 700));
    parts.push_back(source.accumulate(reduction, first, std::move(pieces)));
    first = end;
  }
  while (parts.size() > 1) {
    const std::vector<std::span<const std::byte>> last = {parts[parts.size() - 2], parts.back()};
    Bytes merged = reduction.merge(last);
    parts.pop_back();
    parts.back() = std::move(merged);
  }
  return parts.front();
}

/// A source whose rows are reached in partitions alone.
inline std::unique_ptr<PartitionedSource> partitioned(const Batch& rows, const Head* head,
                                                      const std::vector<Index>& cuts) {
  const MemorySource all(rows, head);
  SourceInfo info = all.info();
  info.name = "partitions";
  auto copy = head != nullptr ? std::make_shared<Head>(*head) : nullptr;
  auto self = std::make_shared<PartitionedSource*>();
  auto source = std::make_unique<PartitionedSource>(info, copy, [=](const Reduction& reduction) {
    return reduce_in(reduction, **self, rows, head, cuts);
  });
  *self = source.get();
  return source;
}

}  // namespace ood::test
