// Hostile and broken files: see model_file_errors_test.cc.
#include "ood/model_file.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "dataset_files.h"
#include "ood/detectors.h"
#include "ood/fit_model.h"
#include "ood/registry.h"
#include "ood/version.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Index kDim = 13, kClasses = 4;

const test::Everything& train() {
  static const auto data = test::make_everything(700, kDim, kClasses, 7);
  return data;
}
const test::Everything& queries() {
  static const auto data = test::make_everything(150, kDim, kClasses, 8);
  return data;
}
const test::Everything& outliers() {
  static const auto data = test::make_everything(200, kDim, kClasses, 11, 0.01, 1.3f, 1.0);
  return data;
}

Model fitted_model(const std::string& name, bool by_class = false) {
  Model model{.detector = make_detector(name)};
  if (name == "corp") model.detector->set_options({{"dimension", Index{64}}});
  MemorySource rows(train().batch(), &train().head), other(outliers().batch(), &train().head);
  model.detector->fit({.train = &rows, .ood_val = {{"noise", &other}}});
  MemorySource id(queries().batch(), &train().head);
  model.calibration = calibrate(*model.detector, id, by_class);
  return model;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder),
                                                std::filesystem::directory_iterator()));
}

}  // namespace

TEST_CASE("model file: every detector has the same options, state and scores, to the bit") {
  const test::TemporaryFolder folder;
  const auto path = folder / "model.ood";
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const Model saved = fitted_model(name);
    save_model(saved, path);  // over the one before
    const Model loaded = load_model(path);
    CHECK(loaded.detector->name() == name);
    CHECK(loaded.detector->fitted());
    const auto before = saved.detector->options(), after = loaded.detector->options();
    REQUIRE(before.size() == after.size());
    for (std::size_t i = 0; i < before.size(); ++i) CHECK(before[i].value == after[i].value);
    CHECK(to_bytes(*saved.detector) == to_bytes(*loaded.detector));
    CHECK(same_bits(saved.detector->score(queries().batch()),
                    loaded.detector->score(queries().batch())));
    CHECK(loaded.calibration.rows() == 150);
    CHECK(loaded.threshold() == saved.threshold());
  }
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("model file: calibration, rows and version come back") {
  const test::TemporaryFolder folder;
  const auto path = folder / "model.ood";
  for (const bool by_class : {false, true}) {
    Model saved = fitted_model("energy", by_class);
    saved.alpha = 0.125;
    saved.fitted_on = {"features.h5", "00ff", "id_val, train", 123, 7, 3, true};
    saved.calibrated_on = {"", "", "id_val", 150, 0, 0, false};
    save_model(saved, path);
    const Model loaded = load_model(path);
    CHECK(loaded.alpha == 0.125);
    CHECK(loaded.version == OOD_VERSION);
    CHECK(loaded.calibrated());
    CHECK(loaded.fitted_on.file == "features.h5");
    CHECK(loaded.fitted_on.fingerprint == "00ff");
    CHECK(loaded.fitted_on.split == "id_val, train");
    CHECK(loaded.fitted_on.rows == 123);
    CHECK(loaded.fitted_on.dim == 7);
    CHECK(loaded.fitted_on.classes == 3);
    CHECK(loaded.fitted_on.part);
    CHECK(loaded.calibrated_on.file.empty());
    CHECK(loaded.calibrated_on.split == "id_val");
    CHECK_FALSE(loaded.calibrated_on.part);
    CHECK(loaded.calibration.by_class() == by_class);
    CHECK(loaded.needs().logits);
    const auto batch = queries().batch();
    const auto scores = loaded.detector->score(batch);
    std::vector<double> before(scores.size()), after(scores.size());
    saved.calibration.p_values(batch, scores, before);
    loaded.calibration.p_values(batch, scores, after);
    CHECK(same_bits(before, after));
  }
}

TEST_CASE("model file: needs() has logits where the calibration is by class") {
  CHECK(fitted_model("knn").needs().names() == std::vector<std::string>{"features"});
  CHECK(fitted_model("knn", true).needs().names() ==
        std::vector<std::string>{"features", "logits"});
}

TEST_CASE("model file: without a calibration") {
  const test::TemporaryFolder folder;
  Model saved = fitted_model("mahalanobis");
  saved.calibration = {};
  save_model(saved, folder / "model.ood");
  const Model loaded = load_model(folder / "model.ood");
  CHECK_FALSE(loaded.calibrated());
  CHECK(same_bits(saved.detector->score(queries().batch()),
                  loaded.detector->score(queries().batch())));
}

TEST_CASE("model file: the same model gives the same bytes") {
  const test::TemporaryFolder folder;
  const Model model = fitted_model("conjnorm");
  save_model(model, folder / "a.ood");
  save_model(model, folder / "b.ood");
  save_model(load_model(folder / "a.ood"), folder / "c.ood");
  CHECK(bytes_of(folder / "a.ood") == bytes_of(folder / "b.ood"));
  CHECK(bytes_of(folder / "a.ood") == bytes_of(folder / "c.ood"));
}

TEST_CASE("model file: what can be seen without libood") {
  // docs/model-file.md: a header of text, then HDF5
  const test::TemporaryFolder folder;
  const auto path = folder / "model.ood";
  save_model(fitted_model("knn"), path);
  const std::string bytes = bytes_of(path);
  CHECK(bytes.starts_with("libood model\nformat 1\n"));
  CHECK(bytes.find(fmt::format("\nbytes {}\n", bytes.size())) < 512);
  CHECK(bytes.substr(512, 8) == "\x89HDF\r\n\x1a\n");
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  REQUIRE(file >= 0);
  const hid_t bank = H5Dopen2(file, "/state/bank", H5P_DEFAULT);
  REQUIRE(bank >= 0);
  const hid_t space = H5Dget_space(bank);
  hsize_t shape[2] = {};
  CHECK(H5Sget_simple_extent_dims(space, shape, nullptr) == 2);
  CHECK(shape[0] == 700);
  CHECK(shape[1] == kDim);
  H5Sclose(space);
  H5Dclose(bank);
  H5Fclose(file);
}

TEST_CASE("model file: nothing is written where a model cannot be") {
  const test::TemporaryFolder folder;
  const auto path = folder / "model.ood";
  std::ofstream(path) << "old";
  Model model{.detector = make_detector("knn")};
  CHECK_THROWS_WITH_AS(save_model(model, path),
                       "save_model: knn is not fitted, expected fit before saving",
                       std::logic_error);
  CHECK_THROWS_AS(save_model(Model{}, path), std::logic_error);
  model = fitted_model("energy");
  model.alpha = 1;
  CHECK_THROWS_AS(save_model(model, path), std::invalid_argument);
  CHECK(bytes_of(path) == "old");
  CHECK(files_in(folder.path()) == 1);
  model.alpha = 0.1;
  CHECK_THROWS_AS(save_model(model, folder / "no" / "such" / "folder.ood"), std::runtime_error);
  std::filesystem::create_directory(folder / "folder");
  CHECK_THROWS_WITH_AS(save_model(model, folder / "folder"), doctest::Contains("cannot be written"),
                       std::runtime_error);
  CHECK(files_in(folder.path()) == 2);
}
