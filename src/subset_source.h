/// Some rows of another source.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "ood/batch.h"

namespace ood {

/// Calls visit(begin, count) for each run of chosen rows among rows [first, first + rows) of a
/// mask; begin counts from `first`.
template <class Visit>
void for_each_run(std::span<const char> mask, Index first, Index rows, const Visit& visit) {
  const auto begin = mask.begin() + first, end = begin + rows;
  for (auto from = std::find(begin, end, 1); from != end;) {
    const auto to = std::find(from, end, 0);
    visit(from - begin, to - from);
    from = std::find(to, end, 1);
  }
}

/// The rows of `source` whose entry in `mask` is 1. With classes (new number of each old class, -1
/// where its rows are not chosen) labels are renumbered and what knows all classes is not shown:
/// logits, head, copies.
class SubsetSource final : public BatchSource {
 public:
  SubsetSource(BatchSource& source, std::vector<char> mask, std::vector<Index> classes = {})
      : source_(source), mask_(std::move(mask)), classes_(std::move(classes)) {
    info_ = source.info();
    info_.name = "part of " + info_.name;
    info_.rows = std::ranges::count(mask_, 1);
    if (classes_.empty()) return;
    info_.has = {.features = info_.has.features, .labels = info_.has.labels};
    info_.classes = std::ranges::max(classes_) + 1;
  }

  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return info_.has.head ? source_.head() : nullptr; }

  void read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) override {
    BatchBuffer buffer(info_, wanted, 0);
    Index given = 0;
    source_.read(wanted, [&](const Batch& batch) {
      if (buffer.capacity() < batch.rows()) buffer = BatchBuffer(info_, wanted, batch.rows());
      buffer.clear(given);
      for_each_run(mask_, batch.first_row, batch.rows(),
                   [&](Index begin, Index count) { buffer.append(batch.slice(begin, count)); });
      if (!classes_.empty() && wanted.labels)
        for (Index i = 0; i < buffer.rows(); ++i) {
          std::int64_t& label = buffer.labels[static_cast<std::size_t>(i)];
          label = classes_[static_cast<std::size_t>(label)];
        }
      given += buffer.rows();
      if (buffer.rows() > 0) visit(buffer.view());
    });
  }

 private:
  BatchSource& source_;
  std::vector<char> mask_;
  std::vector<Index> classes_;
  SourceInfo info_;
};

}  // namespace ood
