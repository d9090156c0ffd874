#include "ood/stream.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "errors.h"
#include "ood/kernels.h"
#include "ood/linear_head.h"
#include "ood/partitions.h"
#include "single_threaded.h"

namespace ood {

namespace {

const char* spell(float value) { return std::isnan(value) ? "NaN" : "infinity"; }

void check_finite(const SourceInfo& info, const std::string& field, const MatrixView& rows,
                  Index first_row) {
  const auto place = kernels::find_nonfinite(rows);
  if (!place) return;
  const auto [row, column] = *place;
  throw_invalid("{}/{} has {} at row {}, column {}, expected finite numbers", info.name, field,
                spell(rows(row, column)), first_row + row, column);
}

void check_finite(const SourceInfo& info, const std::string& field, const Tensor3View& copies,
                  Index first_row) {
  const auto& strides = copies.strides();
  for (std::size_t k = 0; k < copies.shape()[0]; ++k) {
    const MatrixView copy(copies.data() + static_cast<std::ptrdiff_t>(k) * strides[0],
                          static_cast<Index>(copies.shape()[1]),
                          static_cast<Index>(copies.shape()[2]), strides[1]);
    check_finite(info, fmt::format("{}[{}]", field, k), copy, first_row);
  }
}

void check_labels(const SourceInfo& info, Labels labels, Index first_row) {
  const auto bad = std::ranges::find_if(
      labels, [&](std::int64_t label) { return label < 0 || label >= info.classes; });
  if (bad != labels.end())
    throw_invalid("{}/labels has {} at row {}, expected [0, {})", info.name, *bad,
                  first_row + (bad - labels.begin()), info.classes);
}

void check_values(const SourceInfo& info, const Batch& batch) {
  const Index first = batch.first_row;
  if (batch.features) check_finite(info, "features", *batch.features, first);
  if (batch.logits) check_finite(info, "logits", *batch.logits, first);
  if (batch.labels) check_labels(info, *batch.labels, first);
  for (const auto& [name, layer] : batch.layers) check_finite(info, "layers/" + name, layer, first);
  if (batch.copy_features) check_finite(info, "copies/features", *batch.copy_features, first);
  if (batch.copy_logits) check_finite(info, "copies/logits", *batch.copy_logits, first);
}

/// features * weight^T + bias for any block of rows.
class HeadProduct {
 public:
  explicit HeadProduct(const Head& head) : head_(head) { head_.prepare(); }

  const Matrix& logits(const MatrixView& features, const Exec& exec) {
    logits_.resize(features.rows(), head_.classes());
    const Index tiles = (features.rows() + kernels::kTileRows - 1) / kernels::kTileRows;
    parallel_for(tiles, exec, [&](Index tile) {
      const Index begin = tile * kernels::kTileRows;
      const Index count = std::min(kernels::kTileRows, features.rows() - begin);
      thread_local Matrix product;
      head_.logits(features.middle_rows(begin, count), product);
      logits_.middleRows(begin, count) = product;
    });
    return logits_;
  }

 private:
  LinearHead head_;
  Matrix logits_;
};

}  // namespace

Inputs available(const SourceInfo& info) {
  Inputs inputs = info.has;
  inputs.logits |= inputs.features && inputs.head;
  return inputs;
}

void stream(BatchSource& source, const Inputs& wanted, const Exec& exec,
            const std::function<void(const Batch&)>& visit) {
  const SourceInfo& info = source.info();
  if (const Inputs missing = wanted.without(available(info)); missing.any())
    throw_invalid("{} has no {}", info.name, fmt::join(missing.names(), ", no "));

  const bool make_logits = wanted.logits && !info.has.logits;
  Inputs stored = wanted;
  if (make_logits) {
    stored.logits = false;
    stored.features = true;
  }
  std::optional<HeadProduct> head;
  if (make_logits) head.emplace(*source.head());

  const ThreadLimit limit(thread_count(exec));  // of what the source does
  const Partitions* partitions = source.partitions();
  const Index expected = partitions != nullptr ? partitions->held().count : info.rows;
  Index rows = 0;
  source.read(stored, [&](const Batch& batch) {
    rows += batch.rows();
    if (rows > expected)  // before anybody counts on the number
      throw_invalid("{} yielded {} rows or more, expected {}", info.name, rows, expected);
    check_values(info, batch);
    if (!make_logits) return visit(batch);
    Batch complete = batch;
    complete.logits = head->logits(*batch.features, exec);
    check_finite(info, "logits (of features and head)", *complete.logits, batch.first_row);
    visit(complete);
  });
  if (rows != expected) throw_invalid("{} yielded {} rows, expected {}", info.name, rows, expected);
}

}  // namespace ood
