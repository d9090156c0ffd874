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
    CHECK(reduce(source, RowBank(9'001, 3), Exec{3}).take() == data.features);
  }
}

TEST_CASE("row_bank: merged parts by way of bytes, with a wrong guess of the number of rows") {
  const auto data = test::make_synthetic(100, 3, 2, 1);
  RowBank first(7, 3), second(7, 3);
  first.add(data.batch().slice(0, 40));
  second.add(data.batch().slice(40, 60));
  auto loaded = fields_from_bytes<RowBank>(fields_to_bytes(first));
  loaded.merge(second);
  CHECK(std::move(loaded).take() == data.features);
}
