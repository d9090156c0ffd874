#include "ood/row_sample.h"

#include <doctest/doctest.h>

#include <vector>

#include "ood/serialize.h"

using namespace ood;

namespace {

std::vector<Index> rows_of(const RowSample& sample, Index rows) {
  std::vector<Index> kept;
  for (Index row = 0; row < rows; ++row)
    if (sample.contains(row)) kept.push_back(row);
  return kept;
}

}  // namespace

TEST_CASE("row_sample: exactly ceil(share n) rows, of the share as it is written") {
  struct Case {
    Index rows;
    double share;
    Index size;
  };
  const std::vector<Case> cases = {{100, 0.07, 7}, {100, 0.071, 8}, {1'000, 0.001, 1},
                                   {5, 0.01, 1},   {7, 0.5, 4},     {7, 0.999, 7},
                                   {7, 1, 7},      {0, 0.5, 0},     {100'000, 0.3, 30'000}};
  for (const Case& c : cases) {
    CAPTURE(c.rows);
    CAPTURE(c.share);
    const RowSample sample(c.rows, c.share, 5);
    CHECK(sample.size() == c.size);
    CHECK(std::ssize(rows_of(sample, c.rows)) == c.size);
  }
  CHECK(RowSample(7).contains(9));
}

TEST_CASE("row_sample: the rows that a transcription of Philox chooses") {
  // tests/reference/row_sample.py
  CHECK(rows_of(RowSample(20, 0.25, 3), 20) == std::vector<Index>{1, 2, 4, 16, 18});
  CHECK(rows_of(RowSample(20, 0.25, (Index{1} << 33) + 3), 20) ==
        std::vector<Index>{0, 2, 12, 16, 18});
}

TEST_CASE("row_sample: a larger share holds a smaller one; another seed draws anew") {
  const auto few = rows_of(RowSample(1'000, 0.1, 1), 1'000);
  const RowSample more(1'000, 0.2, 1);
  for (const Index row : few) CHECK(more.contains(row));
  CHECK(rows_of(RowSample(1'000, 0.1, 2), 1'000) != few);
}

TEST_CASE("row_sample: by way of bytes") {
  const RowSample sample(1'000, 0.1, 1);
  const auto loaded = fields_from_bytes<RowSample>(fields_to_bytes(sample));
  CHECK(loaded.size() == 100);
  CHECK(rows_of(loaded, 1'000) == rows_of(sample, 1'000));
}

TEST_CASE("row_sample: too few rows for k neighbours are an error that says of how many") {
  CHECK_NOTHROW(RowSample(20, 0.25).require_neighbours(5, "memory"));
  CHECK_THROWS_WITH_AS(RowSample(20, 0.25).require_neighbours(6, "memory"),
                       "memory has 5 of 20 rows in the bank, expected k = 6 or more",
                       std::domain_error);
  CHECK_THROWS_WITH_AS(RowSample(20).require_neighbours(21, "memory"),
                       "memory has 20 rows, expected k = 21 or more", std::domain_error);
}
