#include "ood/partitions.h"

#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "ood/accumulators/class_moments.h"
#include "ood/reduce.h"
#include "ood/serialize.h"
#include "partitioned.h"
#include "synthetic.h"

using namespace ood;
using test::partitioned;

namespace {

/// Records what is added and merged, as text: ((0 1) 2).
struct Trace {
  std::string text;
  Inputs inputs() const { return {.features = true}; }
  void add(const Batch& batch) { text = std::to_string(batch.first_row / kBlockRows); }
  void merge(const Trace& other) { text = "(" + text + " " + other.text + ")"; }
  void visit(FieldVisitor& v) { v.state("text", text); }
};

std::string trace(Index blocks, const std::vector<Index>& cuts) {
  const Matrix features = Matrix::Zero(blocks * kBlockRows, 1);
  Batch rows;
  rows.features = features;
  std::vector<Index> places;
  for (const Index cut : cuts) places.push_back(cut * kBlockRows);
  return reduce(*partitioned(rows, nullptr, places), Trace{}).text;
}

}  // namespace

TEST_CASE("partitions: blocks are merged by eights, whatever the partitions") {
  CHECK(trace(1, {}) == "0");
  CHECK(trace(3, {}) == "((0 1) 2)");
  const std::string eight = "(((((((0 1) 2) 3) 4) 5) 6) 7)";
  CHECK(trace(8, {}) == eight);
  CHECK(trace(8, {3, 4}) == eight);
  CHECK(trace(9, {8}) == "(" + eight + " 8)");
  CHECK(trace(11, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) == "(" + eight + " ((8 9) 10))");
  const std::string whole = trace(150, {});
  const Matrix features = Matrix::Zero(150 * kBlockRows, 1);
  Batch rows;
  rows.features = features;
  MemorySource source(rows, nullptr, 10'000);
  CHECK(reduce(source, Trace{}, {.threads = 2}).text == whole);
  for (const std::vector<Index>& cuts : {std::vector<Index>{64, 128},
                                         {1},
                                         {149},
                                         {63, 65, 66, 120},
                                         {8, 16, 24, 100, 101},
                                         {7, 17, 71}})
    CHECK(trace(150, cuts) == whole);
}

TEST_CASE("partitions: whole nodes are one sum") {
  MergeTree<Trace> tree(8);
  for (Index block = 8; block < 8 + 64; ++block) tree.add(Trace{std::to_string(block)});
  const std::size_t of_64 = tree.to_bytes().size();
  MergeTree<Trace> one(64);
  for (Index block = 64; block < 128; ++block) one.add(Trace{std::to_string(block)});
  std::vector<Index> levels;
  const Bytes bytes = one.to_bytes();  // kept, as the reader has a view
  ByteReader reader(bytes);
  Index first = 0, end = 0;
  reader.state("first_block", first);
  reader.state("end_block", end);
  reader.state("levels", levels);
  CHECK(first == 64);
  CHECK(end == 128);
  CHECK(levels == std::vector<Index>{2});
  CHECK(of_64 > bytes.size());  // begins in the middle of one: seven nodes and eight blocks
}

TEST_CASE("partitions: class moments have the bits of one pass") {
  const auto data = test::make_synthetic(90'001, 13, 7, 3);
  MemorySource source(data.batch(), &data.head);
  const auto want = fields_to_bytes(reduce(source, ClassMoments(7, 13)));
  for (const std::vector<Index>& cuts :
       {std::vector<Index>{}, {32'768, 65'536}, {4'096, 45'056, 86'016}})
    for (const int threads : {1, 2})
      CHECK((fields_to_bytes(reduce(*partitioned(data.batch(), &data.head, cuts),
                                    ClassMoments(7, 13), Exec{threads})) == want));
}

TEST_CASE("partitions: logits that a head makes of features are made of each piece") {
  const auto data = test::make_synthetic(9'000, 6, 3, 3);
  Batch rows;
  rows.features = data.features;
  struct SumLogits {
    double sum = 0;
    Inputs inputs() const { return {.logits = true}; }
    void add(const Batch& b) { sum += b.logits->cast<double>().sum(); }
    void merge(const SumLogits& other) { sum += other.sum; }
    void visit(FieldVisitor& v) { v.state("sum", sum); }
  };
  MemorySource source(rows, &data.head);
  CHECK(reduce(*partitioned(rows, &data.head, {4'096}), SumLogits{}).sum ==
        reduce(source, SumLogits{}).sum);
}

TEST_CASE("partitions: errors") {
  const auto data = test::make_synthetic(9'000, 6, 3, 3);
  const auto source = partitioned(data.batch(), &data.head, {});
  const ClassMoments empty(3, 6);
  const ReductionOf<ClassMoments> reduction(*source, empty, Exec{});
  const auto piece = [&](Index first, Index count) {
    return std::vector<std::shared_ptr<BatchSource>>{
        std::make_shared<MemorySource>(data.batch().slice(first, count), &data.head)};
  };
  CHECK_THROWS_WITH_AS(source->accumulate(reduction, 100, piece(100, 4'096)),
                       "partitions: partition of rows 100 to 4196, expected whole blocks of 4096",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(source->accumulate(reduction, 0, piece(0, 5'000)),
                       "partitions: partition of rows 0 to 5000, expected whole blocks of 4096",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(source->accumulate(reduction, 8'192, piece(0, 4'096)),
                       "partitions: partition of rows 8192 to 12288, expected some of 9000",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(source->read({.features = true}, [](const Batch&) {}),
                       "partitions: its rows are in other places, where they can be reduced alone",
                       std::logic_error);
  const Matrix narrow = Matrix::Zero(4'096, 5);
  Batch rows;
  rows.features = narrow;
  CHECK_THROWS_WITH_AS(source->accumulate(reduction, 0, {std::make_shared<MemorySource>(rows)}),
                       "memory has D = 5, expected 6 as all rows", std::invalid_argument);

  const Bytes first = source->accumulate(reduction, 0, piece(0, 4'096));
  const Bytes last = source->accumulate(reduction, 8'192, piece(8'192, 808));
  const std::vector<std::span<const std::byte>> gap = {first, last};
  CHECK_THROWS_WITH_AS(reduction.merge(gap), "summary of blocks from 2, expected those from 1",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(reduction.total(first), "summary of the blocks from 0 to 1, expected all 3",
                       std::invalid_argument);
  // Nothing is held after an error
  CHECK(source->held().count == 0);
  CHECK_THROWS_AS(reduction.total(std::span(first).first(40)), std::invalid_argument);
}

TEST_CASE("partitions: a head of other widths is refused") {
  const auto data = test::make_synthetic(10, 6, 3, 3);
  SourceInfo info = MemorySource(data.batch(), &data.head).info();
  info.classes = 4;
  CHECK_THROWS_WITH_AS(PartitionedSource(info, std::make_shared<Head>(data.head), {}),
                       "memory: head has a weight [3, 6] and a bias [3], expected [4, 6] and [4]",
                       std::invalid_argument);
}

TEST_CASE("partitions: NaN is found in the piece where it is") {
  auto data = test::make_synthetic(9'000, 6, 3, 3);
  data.features(8'500, 2) = std::numeric_limits<float>::quiet_NaN();
  const auto source = partitioned(data.batch(), &data.head, {4'096});
  CHECK_THROWS_WITH_AS(reduce(*source, ClassMoments(3, 6)),
                       "memory/features has NaN at row 2770, column 2, expected finite numbers",
                       std::invalid_argument);
}
