#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "dataset_files.h"
#include "ood/stream.h"

using namespace ood;
using namespace ood::test;

namespace {

struct Block {
  Index first, rows;
};

std::vector<Block> blocks_of(BatchSource& source, const Inputs& wanted) {
  std::vector<Block> blocks;
  source.read(wanted, [&](const Batch& batch) {
    blocks.push_back({batch.first_row, batch.rows()});
  });
  return blocks;
}

}  // namespace

TEST_CASE("dataset source: every storage gives the same rows, on every pass") {
  const TemporaryFolder folder;
  const Index n = 2500;
  struct Case {
    const char* name;
    Storage storage;
  };
  for (const Case& test :
       {Case{"contiguous", {}}, Case{"chunks 7 x 6", {{7, 6}}},
        Case{"chunks 1000 x 6, shuffle, gzip", {{1000, 6}, 4}},
        Case{"chunks 1024 x 6", {{1024, 6}}}, Case{"chunks 900 x 4, shuffle, gzip", {{900, 4}, 1}},
        Case{"chunks 2500 x 1", {{2500, 1}}}, Case{"chunks 1 x 6", {{1, 6}}}}) {
    CAPTURE(test.name);
    {
      RawFile file(folder / "storage.h5");
      file.floats("/train/features", {static_cast<hsize_t>(n), 6}, number, test.storage);
      file.labels("/train/labels", some_labels(static_cast<std::size_t>(n)), {{33}});
    }
    const Dataset dataset(folder / "storage.h5");
    CHECK(dataset.info().arrays.front().storage == test.name);
    const auto source = dataset.source("train");
    for (int pass = 0; pass < 2; ++pass) {
      const BatchBuffer rows = gather(*source);
      CHECK(rows.features == numbers(n, 6));
      CHECK(rows.labels == some_labels(static_cast<std::size_t>(n)));
    }
  }
}

TEST_CASE("dataset source: some of the rows") {
  const TemporaryFolder folder;
  {
    RawFile file(folder / "some.h5");
    file.floats("/train/features", {2500, 6}, number, {{100, 6}, 4});
    file.labels("/train/labels", some_labels(2500), {{33}});
  }
  const Dataset dataset(folder / "some.h5");
  const Index classes = dataset.source("train")->info().classes;
  struct Rows {
    Index begin, end;
  };
  for (const Rows& some : {Rows{0, 2500}, Rows{0, 1}, Rows{99, 1201}, Rows{2499, 2500}}) {
    const Index begin = some.begin, end = some.end;
    CAPTURE(begin);
    const auto source = dataset.source("train", begin, end);
    CHECK(source->info().rows == end - begin);
    CHECK(source->info().classes == classes);  // of all rows
    const BatchBuffer rows = gather(*source);
    CHECK(rows.features == numbers(2500, 6).middleRows(begin, end - begin));
    const auto labels = some_labels(2500);
    CHECK(std::ranges::equal(rows.labels,
                             std::span(labels).subspan(static_cast<std::size_t>(begin),
                                                       static_cast<std::size_t>(end - begin))));
    CHECK(blocks_of(*source, {.features = true}).front().first == 0);
  }
  CHECK(dataset.source("train", 5, 9, 40)->info().classes == 40);  // as it is told
  const auto told_too_few = dataset.source("train", 0, 2500, 3);
  CHECK_THROWS_WITH_AS(stream(*told_too_few, {.labels = true}, {}, [](const Batch&) {}),
                       doctest::Contains("labels has 7 at row 1, expected [0, 3)"),
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(dataset.source("train", 7, 2501),
                       ((folder / "some.h5").string() +
                        ": /train: rows 7 to 2501 are asked for, expected some of its 2500")
                           .c_str(),
                       std::invalid_argument);
  CHECK_THROWS_AS(dataset.source("train", 7, 7), std::invalid_argument);
  CHECK_THROWS_AS(dataset.source("train", -1, 7), std::invalid_argument);
}

TEST_CASE("dataset source: who says the number of classes spares the reading of all labels") {
  const TemporaryFolder folder;
  const auto path = folder / "some.h5";
  {
    RawFile file(path);
    file.floats("/train/features", {3, 2}, number);
    file.labels("/train/labels", {0, std::int64_t{1} << 40, 1});  // cannot be counted
  }
  const Dataset dataset(path);
  CHECK_THROWS_AS(dataset.source("train"), std::invalid_argument);
  const auto source = dataset.source("train", 2, 3, 2);
  CHECK(source->info().classes == 2);
  CHECK(gather(*source).labels == std::vector<std::int64_t>{1});
}

TEST_CASE("dataset source: blocks are consecutive, bounded and aligned with the chunks") {
  const TemporaryFolder folder;
  struct Case {
    hsize_t rows, columns, chunk;  // no chunks if 0
    Index block;
  };
  for (const Case& test :
       {Case{40000, 3, 0, 16384}, Case{40000, 3, 1000, 16000}, Case{40000, 3, 7, 16380},
        Case{40000, 3, 40000, 16384}, Case{6000, 2048, 512, 2048}, Case{6000, 2048, 600, 1800},
        Case{5, 3, 5, 5}, Case{1, 3, 1, 1}}) {
    CAPTURE(test.rows);
    CAPTURE(test.chunk);
    {
      RawFile file(folder / "blocks.h5");
      const Shape chunk = test.chunk > 0 ? Shape{test.chunk, test.columns} : Shape{};
      file.floats("/train/features", {test.rows, test.columns}, number, {chunk});
    }
    const auto source = Dataset(folder / "blocks.h5").source("train");
    Index next = 0;
    for (const auto& [first, rows] : blocks_of(*source, kEverything)) {
      CHECK(first == next);
      CHECK(rows == std::min(test.block, static_cast<Index>(test.rows) - first));
      CHECK(rows * static_cast<Index>(test.columns) * 4 <= 16 << 20);
      next += rows;
    }
    CHECK(next == static_cast<Index>(test.rows));
  }
}

TEST_CASE("dataset source: sources stand alone and can be read by turns") {
  const TemporaryFolder folder;
  {
    RawFile file(folder / "two.h5");
    file.floats("/train/features", {40000, 3}, number, {{1000, 3}, 1});
    file.floats("/id_test/features", {33000, 3}, number, {{1024, 3}, 1});
  }
  std::unique_ptr<BatchSource> train, id_test;
  {
    const Dataset dataset(folder / "two.h5");
    train = dataset.source("train");
    id_test = dataset.source("id_test");
  }
  SUBCASE("one inside the other") {
    train->read(kEverything, [&](const Batch& batch) {
      CHECK(gather(*id_test).features == numbers(33000, 3));
      CHECK(batch.features->row(0) == numbers(40000, 3).row(batch.first_row));
    });
  }
  SUBCASE("in two threads, opening the file again meanwhile") {
    bool equal[2] = {true, true};
    const auto work = [&](std::size_t i, BatchSource& source, Index rows) {
      for (int pass = 0; pass < 5; ++pass) {
        equal[i] = equal[i] && gather(source).features == numbers(rows, 3);
        equal[i] = equal[i] && Dataset(folder / "two.h5").info().dim == 3;
      }
    };
    std::thread first(work, 0, std::ref(*train), 40000), second(work, 1, std::ref(*id_test), 33000);
    first.join();
    second.join();
    CHECK(equal[0]);
    CHECK(equal[1]);
  }
  SUBCASE("after a visitor threw in the middle") {
    int visits = 0;
    const auto stop = [&](const Batch&) {
      if (++visits == 2) throw std::domain_error("enough");
    };
    CHECK_THROWS_WITH_AS(train->read(kEverything, stop), "enough", std::domain_error);
    CHECK(visits == 2);
    CHECK(gather(*train).features == numbers(40000, 3));
  }
}

TEST_CASE("dataset source: a damaged chunk in the middle") {
  const TemporaryFolder folder;
  const auto path = folder / "damaged.h5";
  hsize_t offset[2] = {20000, 0}, size = 0;
  haddr_t address = 0;
  {
    RawFile file(path);
    file.floats("/train/features", {40000, 2}, [](std::size_t i) { return static_cast<double>(i); },
                {{1000, 2}, 4});
    const hid_t array = H5Dopen2(file.id(), "/train/features", H5P_DEFAULT);
    unsigned mask = 0;
    H5Dget_chunk_info_by_coord(array, offset, &mask, &address, &size);
    H5Dclose(array);
  }
  {
    std::fstream bytes(path, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(address));
    bytes << std::string(size, '\xff');
  }
  const auto source = Dataset(path).source("train");
  Index rows = 0;
  const auto count = [&](const Batch& batch) { rows += batch.rows(); };
  CHECK(
      error_of(path, [&] { source->read(kEverything, count); }) ==
      "runtime_error: damaged.h5: /train/features cannot be read at rows 16000 to 31999: inflate() "
      "failed");
  CHECK(rows == 16000);
}

TEST_CASE("dataset source: what visit throws ends the pass, wherever it is") {
  const TemporaryFolder folder;
  const auto path = folder / "thrown.h5";
  {
    RawFile file(path);
    file.floats("/train/features", {80000, 2}, number, {{1000, 2}, 1});
  }
  const auto source = Dataset(path).source("train");
  const auto blocks = std::ssize(blocks_of(*source, kEverything));
  REQUIRE(blocks > 3);
  for (std::ptrdiff_t last = 0; last < blocks; ++last) {
    std::ptrdiff_t visited = 0;
    CHECK_THROWS_AS(source->read(kEverything,
                                 [&](const Batch&) {
                                   if (visited++ == last) throw std::domain_error("enough");
                                 }),
                    std::domain_error);
    CHECK(visited == last + 1);
  }
}

#if defined(__linux__)
TEST_CASE("dataset source: a pass unpacks on as many threads as it is given, and one that reads") {
  const TemporaryFolder folder;
  const auto path = folder / "threads.h5";
  {
    RawFile file(path);
    file.floats("/train/features", {80000, 2}, number, {{1000, 2}, 1});
  }
  const auto source = Dataset(path).source("train");
  const auto count = [] {
    using Tasks = std::filesystem::directory_iterator;
    return std::distance(Tasks("/proc/self/task"), Tasks());
  };
  const auto before = count();
  for (const int threads : {1, 3, 1}) {
    CAPTURE(threads);
    std::ptrdiff_t most = 0;
    stream(*source, {.features = true}, {.threads = threads},
           [&](const Batch&) { most = std::max(most, count()); });
    // The one that reads is of its team. clang's OpenMP takes threads that others have left.
    CHECK(most - before <= threads);
#if !defined(__clang__)
    CHECK(most - before == threads);
#endif
  }
}
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OOD_SANITIZED
#elif defined(__has_feature)  // clang
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OOD_SANITIZED
#endif
#endif

#if defined(__linux__) && !defined(OOD_SANITIZED)
namespace {

/// The most memory, in KiB, that the process had in use while `work` ran, more than before.
long peak_growth(const std::function<void()>& work) {
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak begins anew
  const auto field = [](const std::string& name) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
      if (long value = 0; word == name && status >> value) return value;
    return 0L;
  };
  const long before = field("VmRSS:");
  work();
  return field("VmHWM:") - before;
}

}  // namespace

TEST_CASE("dataset source: memory does not grow with the number of rows") {
  const TemporaryFolder folder;
  const Index columns = 256, batch_rows = 8192;
  const Matrix block = numbers(batch_rows, columns);
  long peak[2];
  for (std::size_t i = 0; i < 2; ++i) {
    const auto path = folder / std::to_string(i);
    {
      DatasetWriter writer(path, {.gzip_level = 0});
      Batch batch;
      batch.features = block;
      for (int count = i == 0 ? 4 : 32; count > 0; --count)
        writer.append("train", batch);  // 32 MiB
      writer.close();
    }
    const auto source = Dataset(path).source("train");
    peak[i] = peak_growth([&] {
      Index rows = 0;
      source->read(kEverything, [&](const Batch& batch) { rows += batch.rows(); });
      CHECK(rows == (i == 0 ? 4 : 32) * batch_rows);
    });
  }
  CHECK(peak[0] < 48 << 10);
  CHECK(peak[1] < 48 << 10);  // of 256 MiB
}
#endif
