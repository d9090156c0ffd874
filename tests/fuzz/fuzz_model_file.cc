// The reader of model files on hostile ones, and what a detector does with the state it got from them.
//
// The first byte of an input chooses: the rest is the file; or a script that edits the valid file of a detector
// (file_script.h); or bytes to put into it. An edited file gets a right checksum in three cases of four, as
// somebody who means harm would give it.
#include <array>

#include "file_script.h"
#include "model_files.h"
#include "ood/model_file.h"
#include "ood/registry.h"
#include "synthetic.h"

namespace {

using namespace ood;

const test::Everything& rows() {
  static const auto data = test::make_everything(90, 12, 3, 7);
  return data;
}

OptionMap small_options(const std::string& name) {
  if (name == "knn" || name == "nnguide") return {{"k", Index{5}}};
  if (name == "corp") return {{"dimension", Index{16}}};
  return {};
}

/// The valid model file of each detector, by class for every second one.
const fuzz::Bytes& valid_file(std::size_t number) {
  static const std::vector<std::string> kNames = detector_names();
  static std::vector<fuzz::Bytes> files(kNames.size());
  number %= kNames.size();
  fuzz::Bytes& file = files[number];
  if (!file.empty()) return file;
  const auto outliers = test::make_everything(30, 12, 3, 11, 0.01, 1.3F, 1.0);
  MemorySource source(rows().batch(), &rows().head), other(outliers.batch(), &rows().head);
  Model model{.detector = make_detector(kNames[number], small_options(kNames[number]))};
  if (model.detector->needs().fit.any())
    model.detector->fit({.train = &source, .ood_val = {{"noise", &other}}}, {.threads = 1});
  std::vector<double> scores;
  for (int i = 0; i < 30; ++i) scores.push_back(i);
  std::vector<Index> classes;
  for (Index i = 0; i < 30; ++i) classes.push_back(i % 3);
  model.calibration = number % 2 == 0 ? Calibration(scores) : Calibration(scores, classes, 3);
  const auto path = fuzz::scratch_path();
  save_model(model, path);
  file = fuzz::read_file(path);
  return file;
}

void use(const std::filesystem::path& path) {
  const Model model = load_model(path);
  const Batch batch = rows().batch().slice(0, 4);
  std::array<float, 4> scores{};
  model.detector->score(batch, scores, {.threads = 1});
  std::array<double, 4> p_values{};
  if (model.calibrated()) model.calibration.p_values(batch, scores, p_values);
  model.detector->diagnostics();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const std::size_t mode = data[0] % 3;
  if (mode == 0) {
    const auto path = fuzz::scratch_path();
    fuzz::write_file(path, {data + 1, size - 1});
    if (data[0] / 3 % 4 != 0) test::seal_model(path);
    if (fuzz::reaches_known_faults(path)) return 0;
    fuzz::expect_errors([&] { use(path); });
    return 0;
  }
  fuzz::Bytes valid = valid_file(data[1]);
  const auto path = fuzz::scratch_path();
  fuzz::Script script({data + 2, size - 2});
  if (mode == 2)
    for (int i = 0; i < 8 && !script.ended(); ++i) {
      const std::size_t at = script.byte() * std::size_t{256} + script.byte();
      valid[at % valid.size()] = script.byte();
    }
  fuzz::write_file(path, valid);
  if (mode == 1 && !fuzz::edit(path, script)) return 0;
  if (data[0] / 3 % 4 != 0) test::seal_model(path);
  if (mode == 2 && fuzz::reaches_known_faults(path)) return 0;
  fuzz::expect_errors([&] { use(path); });
  return 0;
}
