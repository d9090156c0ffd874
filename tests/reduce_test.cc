#include <doctest/doctest.h>

#include "ood/accumulators/class_moments.h"
#include "ood/reduce.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

namespace {

/// Records the blocks that it is given, to see how reduce cuts and orders them.
struct Blocks {
  std::vector<std::pair<Index, Index>> ranges;  // first row, rows
  Inputs inputs() const { return {.features = true}; }
  void add(const Batch& batch) { ranges.emplace_back(batch.first_row, batch.rows()); }
  void merge(const Blocks& other) {
    ranges.insert(ranges.end(), other.ranges.begin(), other.ranges.end());
  }
  void visit(FieldVisitor&) {}
};

}  // namespace

TEST_CASE("reduce: blocks are the same for any batches and threads") {
  for (const Index rows : {1, 4'095, 4'096, 4'097, 20'000}) {
    std::vector<std::pair<Index, Index>> want;
    for (Index first = 0; first < rows; first += kBlockRows)
      want.emplace_back(first, std::min(kBlockRows, rows - first));
    const Matrix features = Matrix::Zero(rows, 1);
    Batch batch;
    batch.features = features;
    for (const Index batch_rows : {1, 1'000, 4'096, 5'000, 8'192, 30'000})
      for (const int threads : {1, 2, 7}) {
        CAPTURE(rows);
        CAPTURE(batch_rows);
        CAPTURE(threads);
        MemorySource source(batch, nullptr, batch_rows);
        CHECK(reduce(source, Blocks{}, Exec{threads}).ranges == want);
      }
  }
}

TEST_CASE(
    "reduce: class moments have the same bits for 1, 2 and 7 threads and any size of batches") {
  const auto data = test::make_synthetic(20'001, 13, 7, 3);
  const auto fit = [&](Index batch_rows, int threads) {
    MemorySource source(data.batch(), &data.head, batch_rows);
    return fields_to_bytes(reduce(source, ClassMoments(7, 13), Exec{threads}));
  };
  const auto want = fit(16'384, 1);
  for (const Index batch_rows : {99, 4'096, 6'000, 20'001})
    for (const int threads : {1, 2, 7}) CHECK((fit(batch_rows, threads) == want));
}

TEST_CASE("reduce: fields that are computed on the way are reduced too") {
  const auto data = test::make_synthetic(5'000, 6, 3, 3);
  Batch batch;
  batch.features = data.features;
  MemorySource source(batch, &data.head, 700);
  struct SumLogits {
    double sum = 0;
    Inputs inputs() const { return {.logits = true}; }
    void add(const Batch& b) { sum += b.logits->cast<double>().sum(); }
    void merge(const SumLogits& other) { sum += other.sum; }
    void visit(FieldVisitor& v) { v.state("sum", sum); }
  };
  CHECK(reduce(source, SumLogits{}).sum ==
        doctest::Approx(data.logits.cast<double>().sum()).epsilon(1e-6));
}

TEST_CASE("reduce: an error in a block arrives") {
  struct Fails {
    Inputs inputs() const { return {.features = true}; }
    void add(const Batch& batch) {
      if (batch.first_row > 0) throw std::domain_error("second block");
    }
    void merge(const Fails&) {}
    void visit(FieldVisitor&) {}
  };
  const Matrix features = Matrix::Zero(9'000, 1);
  Batch batch;
  batch.features = features;
  MemorySource source(batch);
  CHECK_THROWS_WITH_AS(reduce(source, Fails{}, Exec{2}), "second block", std::domain_error);
}
