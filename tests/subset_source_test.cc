#include "subset_source.h"

#include <doctest/doctest.h>

#include <string>

#include "ood/stream.h"
#include "synthetic.h"

using namespace ood;

namespace {

const test::Synthetic kData = test::make_synthetic(23, 4, 5, 1);

std::vector<char> mask_of(const std::vector<Index>& rows) {
  std::vector<char> mask(23, 0);
  for (const Index row : rows) mask[static_cast<std::size_t>(row)] = 1;
  return mask;
}

/// Reads `wanted` of a subset and compares with the rows of the original that it stands for.
void check_rows(SubsetSource& subset, const std::vector<Index>& rows, const Inputs& wanted,
                const std::vector<Index>& classes = {}) {
  std::size_t at = 0;
  stream(subset, wanted, {}, [&](const Batch& batch) {
    CHECK(batch.rows() > 0);
    CHECK(batch.first_row == static_cast<Index>(at));
    CHECK(batch.features.has_value() == wanted.features);
    CHECK(batch.logits.has_value() == wanted.logits);
    CHECK(batch.labels.has_value() == wanted.labels);
    for (Index i = 0; i < batch.rows(); ++i) {
      REQUIRE(at < rows.size());
      const Index row = rows[at++];
      if (wanted.features) CHECK((batch.features->row(i) == kData.features.row(row)));
      if (wanted.logits) CHECK((batch.logits->row(i) == kData.logits.row(row)));
      const auto label = static_cast<std::size_t>(kData.labels[static_cast<std::size_t>(row)]);
      if (wanted.labels)
        CHECK((*batch.labels)[static_cast<std::size_t>(i)] ==
              (classes.empty() ? static_cast<Index>(label) : classes[label]));
    }
  });
  CHECK(at == rows.size());
}

}  // namespace

TEST_CASE("subset: chosen rows come in their order, however batches cut the runs of a mask") {
  const std::vector<std::vector<Index>> choices = {
      {0}, {22}, {0, 1, 2, 3, 4, 5, 6, 7}, {2, 3, 4, 9, 10, 20, 22}, {}};
  for (const auto& rows : choices)
    for (const Index batch_rows : {1, 3, 4, 5, 23, 100}) {
      CAPTURE(batch_rows);
      MemorySource source(kData.batch(), &kData.head, batch_rows);
      SubsetSource subset(source, mask_of(rows));
      CHECK(subset.info().rows == std::ssize(rows));
      CHECK(subset.info().name == "part of memory");
      CHECK(subset.info().classes == 5);
      CHECK(subset.head() == &kData.head);
      for (int pass = 0; pass < 2; ++pass)  // the same on every pass
        check_rows(subset, rows, {.features = true, .logits = true, .labels = true});
      check_rows(subset, rows, {.labels = true});
      check_rows(subset, rows, {.features = true});
    }
}

TEST_CASE("subset: of some classes labels are renumbered, and nothing that knows all is shown") {
  const std::vector<Index> classes = {-1, 0, -1, 1, 2};
  std::vector<Index> rows;
  for (Index i = 2; i < 23; ++i)
    if (classes[static_cast<std::size_t>(i % 5)] >= 0) rows.push_back(i);
  for (const Index batch_rows : {2, 6, 23}) {
    MemorySource source(kData.batch(), &kData.head, batch_rows);
    SubsetSource subset(source, mask_of(rows), classes);
    CHECK(subset.info().classes == 3);
    CHECK(subset.info().has.names() == std::vector<std::string>{"features", "labels"});
    CHECK(subset.head() == nullptr);
    check_rows(subset, rows, {.features = true, .labels = true}, classes);
    check_rows(subset, rows, {.labels = true}, classes);
    CHECK_THROWS_AS(stream(subset, {.logits = true}, {}, [](const Batch&) {}),
                    std::invalid_argument);
  }
}
