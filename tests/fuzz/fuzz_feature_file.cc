// The reader of feature files on hostile ones: structure, then every row of every split.
//
// The first byte of an input chooses: even: the rest is the file; odd: the rest is a script that
// edits a valid file through HDF5 (file_script.h), which reaches what lies behind HDF5's own checks.
#include <algorithm>

#include "file_script.h"
#include "ood/dataset.h"
#include "ood/stream.h"
#include "synthetic.h"

namespace {

using namespace ood;

constexpr Index kMostRows = 4096;  // of a split, so that one run is fast

fuzz::Bytes valid_file() {
  const auto path = fuzz::scratch_path();
  const auto rows = test::make_everything(6, 4, 3, 1);
  DatasetWriter writer(path, {.model = "model", .id_dataset = "data"});
  writer.write_head(rows.head);
  Batch batch = rows.batch();
  writer.append("train", batch);
  batch.logits.reset();
  batch.layers.clear();
  writer.append("id_test", batch);
  batch.copy_logits.reset();
  writer.append("ood/x", batch, "near");
  writer.close();
  return fuzz::read_file(path);
}

void read_all(const std::filesystem::path& path) {
  const Dataset dataset(path);
  for (const SplitInfo& split : dataset.info().splits) {
    const Index rows = std::min(split.source.rows, kMostRows);
    const auto source = dataset.source(split.name, 0, rows);
    stream(*source, available(source->info()), {.threads = 1}, [](const Batch&) {});
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Bytes kValid = valid_file();
  if (size == 0) return 0;
  const auto path = fuzz::scratch_path();
  const std::span rest(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    fuzz::write_file(path, rest);
    if (fuzz::reaches_known_faults(path)) return 0;
  } else {
    fuzz::write_file(path, kValid);
    fuzz::Script script(rest);
    if (!fuzz::edit(path, script)) return 0;
  }
  fuzz::expect_errors([&] { read_all(path); });
  return 0;
}
