/// Summaries of consecutive blocks of rows, merged in an order that depends on the blocks alone.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "ood/exec.h"
#include "ood/serialize.h"

namespace ood {

/// Blocks with one parent, which are merged one after the other; then parents are, in the same way.
inline constexpr Index kMergeWays = 8;

/// Sums of blocks as a tree: node i of level l + 1 is the sum of the nodes 8 i ... 8 i + 7 of level l, each
/// merged behind those before it, and level 0 are the blocks. Which sums are made of which follows from
/// the numbers of the blocks; so however the blocks are dealt out to machines, the result has the same
/// bits. Of nodes whose siblings are complete the parent alone is kept: of n consecutive blocks from
/// block 0 on up to log_8 n + 1 sums are in memory, and a part that begins and ends with nodes of 8^l blocks is one
/// sum for each of these.
///
/// A is an accumulator (ood/reduce.h).
template <class A>
class MergeTree {
 public:
  /// Of no blocks yet; the next one is `first_block`.
  explicit MergeTree(Index first_block = 0) : first_(first_block), next_(first_block) {}

  Index first_block() const { return first_; }
  /// The number after that of the last block.
  Index end_block() const { return next_; }

  /// Takes in the next block, of which nothing is left.
  void add(A&& block, const Exec& exec = {.threads = 1}) { push({0, 1, std::move(block)}, exec); }

  /// Takes in the blocks that follow. Throws std::invalid_argument if they begin with another block.
  void append(MergeTree&& later, const Exec& exec = {.threads = 1}) {
    require_next(later.first_);
    const Index end = later.next_;
    for (Node& node : later.nodes_) push(std::move(node), exec);
    next_ = end;
  }

  /// The sum of all blocks; `empty` where there are none.
  A total(const A& empty, const Exec& exec = {.threads = 1}) && {
    if (nodes_.empty()) return empty;
    while (nodes_.size() > 1) {  // the last child of a parent that is not complete
      const Node last = std::move(nodes_.back());
      nodes_.pop_back();
      merge(nodes_.back().sum, last.sum, exec);
    }
    return std::move(nodes_.front().sum);
  }

  std::vector<std::byte> to_bytes() const {
    ByteWriter writer;
    Index first = first_, next = next_;
    std::vector<Index> levels, siblings;
    for (const Node& node : nodes_) {
      levels.push_back(node.level);
      siblings.push_back(node.siblings);
    }
    writer.state("first_block", first);
    writer.state("end_block", next);
    writer.state("levels", levels);
    writer.state("siblings", siblings);
    for (const Node& node : nodes_) const_cast<A&>(node.sum).visit(writer);
    return std::move(writer.bytes);
  }

  /// `empty` has what the sums do not show: settings, and pointers.
  static MergeTree from_bytes(std::span<const std::byte> bytes, const A& empty) {
    ByteReader reader(bytes);
    MergeTree tree;
    std::vector<Index> levels, siblings;
    reader.state("first_block", tree.first_);
    reader.state("end_block", tree.next_);
    reader.state("levels", levels);
    reader.state("siblings", siblings);
    for (std::size_t i = 0; i < levels.size(); ++i) {
      tree.nodes_.push_back({levels[i], siblings.at(i), empty});
      tree.nodes_.back().sum.visit(reader);
    }
    reader.finish();
    return tree;
  }

 private:
  /// The sum of `siblings` nodes of `level`: of one, or of the first ones of their parent.
  struct Node {
    Index level;
    Index siblings;
    A sum;
  };

  static void merge(A& sum, const A& later, const Exec& exec) {
    if constexpr (requires { sum.merge(later, exec); }) {
      sum.merge(later, exec);
    } else {
      sum.merge(later);
    }
  }

  void require_next(Index block) const {
    if (block != next_)
      throw std::invalid_argument("summary of blocks from " + std::to_string(block) +
                                  ", expected those from " + std::to_string(next_));
  }

  static Index blocks_of(Index level) {
    Index blocks = 1;
    for (Index l = 0; l < level; ++l) blocks *= kMergeWays;
    return blocks;
  }

  void push(Node&& node, const Exec& exec) {
    const Index blocks = blocks_of(node.level);
    const Index place = next_ / blocks % kMergeWays;  // among its siblings
    next_ += node.siblings * blocks;
    // As nodes are consecutive, as many siblings as are before it are all of those
    if (place > 0 && !nodes_.empty() && nodes_.back().level == node.level &&
        nodes_.back().siblings == place) {
      merge(nodes_.back().sum, node.sum, exec);
      ++nodes_.back().siblings;
    } else {
      nodes_.push_back(std::move(node));
    }
    if (nodes_.back().siblings < kMergeWays) return;
    Node parent{nodes_.back().level + 1, 1, std::move(nodes_.back().sum)};
    nodes_.pop_back();
    next_ -= kMergeWays * blocks;  // where it begins
    push(std::move(parent), exec);
  }

  Index first_, next_;
  std::vector<Node> nodes_;
};

}  // namespace ood
