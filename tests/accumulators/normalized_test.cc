#include "ood/accumulators/normalized.h"

#include <doctest/doctest.h>

#include "ood/accumulators/row_bank.h"
#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

TEST_CASE("normalized: rows at unit length, zero as it is, or all as they are") {
  Matrix z(3, 2), unit(3, 2);
  z << 3, 4, 0, 0, -2, 0;
  unit << 0.6f, 0.8f, 0, 0, -1, 0;
  Batch batch;
  batch.features = z;
  MemorySource source(batch);
  CHECK(reduce(source, Normalized(RowBank(3, 2))).take().take().features.isApprox(unit, 1e-6f));
  CHECK(reduce(source, Normalized(RowBank(3, 2), false)).take().take().features == z);
}

TEST_CASE("normalized: by way of bytes it goes on as it was") {
  const auto data = test::make_synthetic(20, 3, 2, 1);
  for (const bool normalize : {false, true}) {
    Normalized whole(RowBank(20, 3), normalize), first = whole;
    whole.add(data.batch());
    first.add(data.batch().slice(0, 7));
    first = fields_from_bytes<Normalized<RowBank>>(fields_to_bytes(first));
    first.add(data.batch().slice(7, 13));
    CHECK(std::move(first).take().take().features == std::move(whole).take().take().features);
  }
}
