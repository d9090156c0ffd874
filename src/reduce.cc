#include "ood/reduce.h"

namespace ood {

BlockCutter::BlockCutter(const SourceInfo& info, const Inputs& wanted, Index blocks,
                         std::function<void(const Batch&)> visit)
    : info_(info),
      pending_(info, wanted, 0),
      wanted_(wanted),
      blocks_(blocks),
      visit_(std::move(visit)) {
  info_.has = available(info);  // batches also hold logits that were computed
}

void BlockCutter::add(const Batch& batch) {
  const Index rows = batch.rows(), group = blocks_ * kBlockRows;
  Index done = 0;
  if (pending_.rows() > 0) {
    done = std::min(rows, pending_.capacity() - pending_.rows());
    pending_.append(batch.slice(0, done));
    if (pending_.rows() == pending_.capacity()) flush();
  }
  // From here on the rows are at the start of a block, unless all went into the pending ones
  const bool last = batch.first_row + rows == info_.rows;
  const Index left = rows - done;
  const Index direct = last && pending_.rows() == 0 ? left : left / group * group;
  if (direct > 0) visit_(batch.slice(done, direct));
  done += direct;
  if (done == rows) return;
  if (pending_.capacity() == 0) pending_ = BatchBuffer(info_, wanted_, std::min(group, info_.rows));
  if (pending_.rows() == 0) pending_.clear(batch.first_row + done);
  pending_.append(batch.slice(done, rows - done));
}

void BlockCutter::flush() {
  if (pending_.rows() == 0) return;
  visit_(pending_.view());
  pending_.clear(0);
}

}  // namespace ood
