#include <doctest/doctest.h>

#include "ood/accumulators/row_bank.h"
#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("row_bank: keeps all rows in order") {
  const auto data = test::make_synthetic(9'001, 3, 2, 1);
  for (const Index batch_rows : {1'000, 16'384}) {
    MemorySource source(data.batch(), nullptr, batch_rows);
    CHECK(reduce(source, RowBank(9'001, 3), Exec{3}).take().features == data.features);
  }
}

TEST_CASE("row_bank: merged parts by way of bytes, with a wrong guess of the number of rows") {
  const auto data = test::make_synthetic(100, 3, 2, 1);
  RowBank first(7, 3), second(7, 3);
  first.add(data.batch().slice(0, 40));
  second.add(data.batch().slice(40, 60));
  auto loaded = fields_from_bytes<RowBank>(fields_to_bytes(first));
  loaded.merge(second);
  CHECK(std::move(loaded).take().features == data.features);
}

TEST_CASE("row_bank: a share of the rows and their logits, however they come") {
  const auto data = test::make_synthetic(9'001, 3, 2, 1);
  const RowSample sample(9'001, 0.01, 4);
  Matrix features(91, 3), logits(91, 2);
  Index kept = 0;
  for (Index row = 0; row < 9'001; ++row) {
    if (!sample.contains(row)) continue;
    features.row(kept) = data.features.row(row);
    logits.row(kept++) = data.logits.row(row);
  }
  REQUIRE(kept == 91);
  for (const Index batch_rows : {1'000, 16'384}) {
    MemorySource source(data.batch(), nullptr, batch_rows);
    const auto rows = reduce(source, RowBank(sample, 3, 2), Exec{3}).take();
    CHECK(rows.features == features);
    CHECK(rows.logits == logits);
  }

  RowBank first(sample, 3, 2), second(sample, 3, 2);
  first.add(data.batch().slice(0, 4'000));
  second.add(data.batch().slice(4'000, 5'001));
  auto loaded = fields_from_bytes<RowBank>(fields_to_bytes(first));
  loaded.merge(fields_from_bytes<RowBank>(fields_to_bytes(second)));
  const auto rows = std::move(loaded).take();
  CHECK(rows.features == features);
  CHECK(rows.logits == logits);
}
