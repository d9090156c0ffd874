#include "ood/partitions.h"

#include <utility>

#include "errors.h"
#include "ood/reduce.h"

namespace ood {

namespace {

void require_width(const SourceInfo& piece, const char* what, Index got, Index expected) {
  if (got != expected)
    throw_invalid("{} has {} = {}, expected {} as all rows", piece.name, what, got, expected);
}

/// Labels alone say the least number of classes only.
void require_widths(const SourceInfo& piece, const SourceInfo& all) {
  if (piece.has.features) require_width(piece, "D", piece.dim, all.dim);
  if (piece.has.logits) require_width(piece, "C", piece.classes, all.classes);
  if (piece.has.copy_features || piece.has.copy_logits)
    require_width(piece, "K", piece.copies, all.copies);
  for (const auto& [layer, width] : all.layers)
    if (const auto found = piece.layers.find(layer); found != piece.layers.end())
      require_width(piece, ("D of layer " + layer).c_str(), found->second, width);
}

}  // namespace

PartitionedSource::PartitionedSource(SourceInfo info, std::shared_ptr<const Head> head,
                                     Reduce reduce)
    : info_(std::move(info)), head_(std::move(head)), reduce_(std::move(reduce)) {
  if (!head_) return;
  if (head_->weight.rows() != info_.classes || head_->weight.cols() != info_.dim ||
      head_->bias.size() != info_.classes)
    throw_invalid("{}: head has a weight [{}, {}] and a bias [{}], expected [{}, {}] and [{}]",
                  info_.name, head_->weight.rows(), head_->weight.cols(), head_->bias.size(),
                  info_.classes, info_.dim, info_.classes);
}

Bytes PartitionedSource::accumulate(const Reduction& reduction, Index first_row,
                                    std::vector<std::shared_ptr<BatchSource>> pieces) {
  Index rows = 0;
  for (const auto& piece : pieces) {
    require_widths(piece->info(), info_);
    rows += piece->info().rows;
  }
  const Index end = first_row + rows;
  if (first_row < 0 || end > info_.rows)
    throw_invalid("{}: partition of rows {} to {}, expected some of {}", info_.name, first_row, end,
                  info_.rows);
  if (first_row % kBlockRows != 0 || (end % kBlockRows != 0 && end != info_.rows))
    throw_invalid("{}: partition of rows {} to {}, expected whole blocks of {}", info_.name,
                  first_row, end, kBlockRows);
  const std::lock_guard lock(busy_);
  held_ = {first_row, rows};
  pieces_ = std::move(pieces);
  struct Release {
    PartitionedSource& source;
    ~Release() {
      source.held_ = {};
      source.pieces_.clear();
    }
  } release{*this};
  return reduction.accumulate();
}

void PartitionedSource::read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) {
  if (pieces_.empty())
    throw std::logic_error(fmt::format(
        "{}: its rows are in other places, where they can be reduced alone", info_.name));
  Index first = held_.first;
  for (const auto& piece : pieces_) {
    stream(*piece, wanted, {}, [&](const Batch& batch) {
      Batch placed = batch;
      placed.first_row += first;
      visit(placed);
    });
    first += piece->info().rows;
  }
}

}  // namespace ood
