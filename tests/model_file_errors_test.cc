// Each way in which a model file can be wrong is one line that names the file, what it has, and what is expected.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "dataset_files.h"
#include "model_files.h"
#include "ood/model_file.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;
using namespace ood::test;

namespace {

constexpr const char* kNoSuchLink = "/elsewhere.h5";

Model fitted_model(const std::string& name = "mahalanobis", const OptionMap& options = {}) {
  static const auto rows = make_everything(60, 6, 3, 7);
  Model model{.detector = make_detector(name, options)};
  MemorySource source(rows.batch(), &rows.head);
  model.detector->fit(source);
  const std::vector<double> scores{1, 2, 3, 4, 5};
  model.calibration = Calibration(scores);
  return model;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}
void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string load_error(const std::filesystem::path& path) {
  return error_of(path, [&] { load_model(path); });
}

/// The HDF5 part of a model file while it is changed. C API alone, as in RawFile.
class OpenModel {
 public:
  explicit OpenModel(const std::filesystem::path& path)
      : id_(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)) {
    REQUIRE(id_ >= 0);
  }
  OpenModel(const OpenModel&) = delete;
  OpenModel& operator=(const OpenModel&) = delete;
  ~OpenModel() { H5Fclose(id_); }
  hid_t id() const { return id_; }

  void remove(const std::string& path) const {
    REQUIRE(H5Ldelete(id_, path.c_str(), H5P_DEFAULT) >= 0);
  }
  void array(const std::string& path, const Shape& shape, hid_t type, hid_t memory,
             const void* values, hid_t creation = H5P_DEFAULT) const {
    const hid_t space =
        shape.empty() ? H5Screate(H5S_SCALAR)
                      : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t made =
        H5Dcreate2(id_, path.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    REQUIRE(made >= 0);
    if (values != nullptr) H5Dwrite(made, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(made);
    H5Sclose(space);
  }
  void replace(const std::string& path, const Shape& shape, hid_t type,
               const void* values = nullptr, hid_t creation = H5P_DEFAULT) const {
    remove(path);
    array(path, shape, type, type, values, creation);
  }
  void text(const std::string& path, const std::string& value) const {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, value.size());
    H5Tset_cset(type, H5T_CSET_UTF8);
    replace(path, {}, type, value.data());
    H5Tclose(type);
  }
  void number(const std::string& path, double value) const {
    replace(path, {}, H5T_NATIVE_DOUBLE, &value);
  }
  void number(const std::string& path, std::int64_t value) const {
    replace(path, {}, H5T_NATIVE_INT64, &value);
  }

 private:
  hid_t id_;
};

/// What loading "bad.ood" says after `change`, with a header that is right.
std::string changed_error(const std::function<void(const OpenModel&)>& change,
                          const Model& model = fitted_model()) {
  const TemporaryFolder folder;
  const auto path = folder / "bad.ood";
  save_model(model, path);
  {
    const OpenModel open(path);
    change(open);
  }
  seal_model(path);
  return load_error(path);
}

/// The most memory that this process has had so far, in bytes.
std::size_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") {
      std::size_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  return 0;
}

}  // namespace

TEST_CASE("model file errors: an unchanged copy that is sealed again is none") {
  CHECK(changed_error([](const OpenModel&) {}) == "no error");
}

TEST_CASE("model file errors: widths and numbers of rows that cannot be") {
  for (const char* group : {"fitted_on", "calibrated_on"})
    for (const std::int64_t width :
         {std::int64_t{-1}, (std::int64_t{1} << 24) + 1, std::int64_t{1} << 62})
      for (const char* name : {"dim", "classes"})
        CHECK(changed_error([&](const OpenModel& open) {
                open.number(fmt::format("/{}/{}", group, name), width);
              }) == fmt::format("invalid_argument: bad.ood: /{}/{} has {}, expected 0 to 16777216",
                                group, name, width));
  CHECK(changed_error([](const OpenModel& open) {
          open.number("/fitted_on/rows", std::int64_t{-7});
        }) == "invalid_argument: bad.ood: /fitted_on/rows has -7, expected 0 or more");
}

TEST_CASE("model file errors: a threshold that does not follow from alpha and the scores") {
  const double low = -1e9, alpha = 0.5;
  CHECK(changed_error([&](const OpenModel& open) {
          open.replace("/calibration/thresholds", {1}, H5T_NATIVE_DOUBLE, &low);
        }) ==
        "invalid_argument: bad.ood: /calibration/thresholds has other values than those of alpha "
        "0.05 and "
        "the scores");
  CHECK(changed_error([&](const OpenModel& open) {
          open.number("/model/alpha", alpha);
        }).find("those of alpha 0.5") != std::string::npos);
}

TEST_CASE("model file errors: rows of another width than the state is for are never scored") {
  // Of every detector, what is kept for rows of D features or C classes, declared to be of another width:
  // refused when it is loaded or when such rows are scored. Reads beyond an array are for sanitizers.
  struct Declare final : FieldVisitor {
    std::string_view field;
    Index width = 0;
    void state(std::string_view name, Index& value) override {
      if (name == field && value > 0) value = width;
    }
  };
  // these keep nothing of that width: they would score such rows as any others
  const std::set<std::string> any_dim = {"corp"},
                              any_classes = {"temperature_scaling", "nnguide", "vim", "she"};
  const auto rows = make_everything(200, 12, 4, 7);
  const auto other = make_everything(100, 12, 4, 8, 0.5);
  for (const auto& name : detector_names()) {
    CAPTURE(name);
    const auto detector =
        make_detector(name, name == "corp" ? OptionMap{{"dimension", Index{64}}} : OptionMap());
    MemorySource source(rows.batch(), &rows.head), outliers(other.batch(), &rows.head);
    detector->fit({.train = &source, .ood_val = {{"noise", &outliers}}});
    const Needs needs = detector->needs();
    if (!needs.fit.any()) continue;
    for (const bool dim : {true, false})
      for (const Index width : {Index{3}, Index{40}}) {
        CAPTURE(dim);
        CAPTURE(width);
        const Inputs& read = needs.score;
        if (!(dim ? read.features || read.copy_features : read.logits || read.copy_logits))
          continue;
        if (!(dim ? needs.fit.features : needs.fit.logits)) continue;  // not kept
        const auto spoiled = detector_from_bytes(to_bytes(*detector));
        Declare declare;
        declare.field = dim ? "fitted_dim" : "fitted_classes";
        declare.width = width;
        spoiled->visit_all(declare);
        const auto strange = make_everything(50, dim ? width : 12, dim ? 4 : width, 9);
        const auto load_and_score = [&] {
          spoiled->finish_loading();
          spoiled->score(strange.batch());
        };
        if ((dim ? any_dim : any_classes).contains(name)) {
          try {
            load_and_score();
          } catch (const std::invalid_argument&) {
          }
        } else {
          CHECK_THROWS_AS(load_and_score(), std::invalid_argument);
        }
      }
  }
}

TEST_CASE("model file errors: what is no model file") {
  const TemporaryFolder folder;
  CHECK(load_error(folder / "absent.ood") == "runtime_error: absent.ood: no such file");
  CHECK(load_error(folder.path()).ends_with(": is a directory, expected an HDF5 file"));
  write_bytes(folder / "text.ood", "no model");
  const std::string expected = ", expected a model file, as `ood fit --out` writes";
  CHECK(load_error(folder / "text.ood") ==
        "runtime_error: text.ood: is not a model file" + expected);
  write_bytes(folder / "empty.ood", "");
  CHECK(load_error(folder / "empty.ood") ==
        "runtime_error: empty.ood: is not a model file" + expected);
  {
    RawFile features(folder / "features.h5");
    features.zeros("/train/features", {4, 2});
  }
  CHECK(load_error(folder / "features.h5") ==
        "runtime_error: features.h5: is another HDF5 file" + expected);
  // the header alone is right
  write_bytes(folder / "noise.ood", std::string(5000, 'n'));
  seal_model(folder / "noise.ood");
  CHECK(load_error(folder / "noise.ood") == "runtime_error: noise.ood: is not an HDF5 file");
}

TEST_CASE("model file errors: a feature file that is none but a model") {
  const TemporaryFolder folder;
  const auto path = folder / "model.ood";
  save_model(fitted_model(), path);
  CHECK(error_of(path, [&] { Dataset{path}; }) ==
        "invalid_argument: model.ood: / has no split, expected train, id_val, id_test, "
        "ood_val/<name>, ood/<name> or csid/<name>");
}

TEST_CASE("model file errors: cut off, at any length") {
  const TemporaryFolder folder;
  const auto path = folder / "cut.ood";
  save_model(fitted_model(), path);
  const std::string whole = bytes_of(path);
  for (std::size_t length = 0; length < whole.size(); length += length < 600 ? 1 : 97) {
    CAPTURE(length);
    write_bytes(path, whole.substr(0, length));
    const std::string error = load_error(path);
    const std::string want =
        length < 13
            ? "runtime_error: cut.ood: is not a model file, "
            : fmt::format("runtime_error: cut.ood: is truncated: has {} bytes, expected", length);
    CHECK(error.starts_with(want));
    CHECK(error.find('\n') == error.npos);
  }
  write_bytes(path, whole + "more");
  CHECK(load_error(path) ==
        fmt::format("runtime_error: cut.ood: is damaged: has {} bytes, expected {}",
                    whole.size() + 4, whole.size()));
}

TEST_CASE("model file errors: any other byte is noticed") {
  const TemporaryFolder folder;
  const auto path = folder / "damaged.ood";
  save_model(fitted_model(), path);
  const std::string whole = bytes_of(path);
  const std::size_t header = whole.find('\0');  // behind it the block is filled up
  for (std::size_t at = 0; at < whole.size(); at += at < 512 ? 1 : 53) {
    if (at >= header - 25 && at < 512) continue;  // "HDF5 begins ..." and zeros say nothing
    CAPTURE(at);
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    write_bytes(path, damaged);
    CHECK(load_error(path) != "no error");
  }
}

TEST_CASE("model file errors: another version of the format") {
  const TemporaryFolder folder;
  const auto path = folder / "new.ood";
  save_model(fitted_model(), path);
  seal_model(path, "2");
  CHECK(load_error(path) ==
        "invalid_argument: new.ood: has format 2, expected 1: another version of libood wrote it");
}

TEST_CASE("model file errors: an unknown detector, or another one") {
  CHECK(changed_error([](const OpenModel& f) { f.text("/model/detector", "mahalabonis"); })
            .starts_with("invalid_argument: bad.ood: unknown detector mahalabonis, expected one of "
                         "msp, "));
  CHECK(changed_error([](const OpenModel& f) { f.text("/model/detector", "knn"); }) ==
        "invalid_argument: bad.ood: /options has no k");
}

TEST_CASE("model file errors: state whose shapes disagree") {
  CHECK(changed_error([](const OpenModel& f) {
          const std::vector<float> zeros(35);
          f.replace("/state/center", {5}, H5T_IEEE_F32LE, zeros.data());
        }) ==
        "invalid_argument: bad.ood: shapes of center [5], transform [6, 6] and means [3, 6] "
        "disagree, or not with features of width 6");
  CHECK(changed_error([](const OpenModel& f) { f.number("/state/fitted_dim", std::int64_t{0}); }) ==
        "invalid_argument: bad.ood: mahalanobis: fitted_dim has 0 and fitted_classes 0, expected "
        "the widths of features");
}

TEST_CASE("model file errors: another rank, type or storage") {
  const std::array<double, 6> values{};
  CHECK(changed_error([&](const OpenModel& f) {
          f.replace("/state/center", {2, 3}, H5T_IEEE_F32LE);
        }) == "invalid_argument: bad.ood: /state/center has 2 axes, expected 1");
  CHECK(changed_error([&](const OpenModel& f) {
          f.replace("/state/center", {6}, H5T_NATIVE_DOUBLE, values.data());
        }) == "invalid_argument: bad.ood: /state/center has type float64, expected float32");
  CHECK(changed_error([](const OpenModel& f) {
          const hid_t type = H5Tcopy(H5T_C_S1);
          H5Tset_size(type, H5T_VARIABLE);
          const char* text = "msp";
          f.replace("/model/detector", {}, type, &text);
          H5Tclose(type);
        }) ==
        "invalid_argument: bad.ood: /model/detector has type string, expected a string of fixed "
        "length");
  CHECK(changed_error([](const OpenModel& f) {
          const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
          const hsize_t chunk = 2;
          H5Pset_chunk(creation, 1, &chunk);
          H5Pset_deflate(creation, 9);
          f.replace("/state/center", {6}, H5T_IEEE_F32LE, nullptr, creation);
          H5Pclose(creation);
        }) ==
        "invalid_argument: bad.ood: /state/center has chunks 2, gzip storage, expected contiguous");
  CHECK(changed_error([](const OpenModel& f) {
          const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
          H5Pset_external(creation, "/dev/zero", 0, H5F_UNLIMITED);
          f.replace("/state/center", {6}, H5T_IEEE_F32LE, nullptr, creation);
          H5Pclose(creation);
        }) == "invalid_argument: bad.ood: /state/center has external storage, expected contiguous");
}

TEST_CASE("model file errors: what is declared but not there takes no memory") {
  const std::size_t before = peak_memory();
  REQUIRE(before > 0);
  for (const hsize_t length :
       {hsize_t{1} << 24, hsize_t{1} << 31, hsize_t{1} << 40, hsize_t{1} << 60}) {
    CAPTURE(length);
    CHECK(changed_error(
              [&](const OpenModel& f) { f.replace("/state/center", {length}, H5T_IEEE_F32LE); }) ==
          fmt::format("invalid_argument: bad.ood: /state/center has shape [{}], more than the file "
                      "holds",
                      length));
    // without entries, and still of a width that something could be made of
    CHECK(
        changed_error([&](const OpenModel& f) {
          f.replace("/state/transform", {0, length}, H5T_IEEE_F32LE);
        }) ==
        fmt::format("invalid_argument: bad.ood: /state/transform has shape [0, {}], more than the "
                    "file holds",
                    length));
  }
  CHECK(changed_error([](const OpenModel& f) {
          f.replace("/state/center", {6}, H5T_IEEE_F32LE);  // fits, and was never written
        }) == "invalid_argument: bad.ood: /state/center has 0 bytes, expected 24");
  for (const std::int64_t width : {std::int64_t{1} << 30, std::int64_t{1} << 62}) {
    const std::string error =
        changed_error([&](const OpenModel& f) { f.number("/state/fitted_dim", width); },
                      fitted_model("corp", {{"dimension", Index{16}}}));
    CHECK(error == fmt::format("invalid_argument: bad.ood: corp: fitted_dim has {} and "
                               "fitted_classes 0, expected at most 16777216",
                               width));
  }
  CHECK(changed_error(
            [](const OpenModel& f) { f.number("/state/fitted_dim", std::int64_t{1} << 24); },
            fitted_model("corp", {{"dimension", Index{16}}})) ==
        "invalid_argument: bad.ood: option dimension has 16, expected at most 4 for features of "
        "width 16777216");
  CHECK(changed_error([](const OpenModel& f) { f.number("/options/bins", std::int64_t{1} << 40); },
                      fitted_model("nac")) ==
        "invalid_argument: bad.ood: covered has 48 columns, expected 1099511627774 as bins says");
  CHECK(
      changed_error([](const OpenModel& f) { f.number("/options/copies", std::int64_t{1} << 40); },
                    fitted_model("weiper")) ==
      "invalid_argument: bad.ood: weiper: option copies has 1099511627776, expected a whole "
      "number, 1 or more, 10000 or less");
  CHECK(peak_memory() - before < (std::size_t{48} << 20));
}

TEST_CASE("model file errors: links and groups that do not belong") {
  CHECK(changed_error([](const OpenModel& f) {
          f.remove("/state/center");
          H5Lcreate_external(kNoSuchLink, "/center", f.id(), "/state/center", H5P_DEFAULT,
                             H5P_DEFAULT);
        }) ==
        "invalid_argument: bad.ood: /state/center has a link that leads nowhere in this file, "
        "expected an array");
  CHECK(changed_error([](const OpenModel& f) {
          f.remove("/state");
          H5Lcreate_soft("/state", f.id(), "/state", H5P_DEFAULT, H5P_DEFAULT);
        }) ==
        "invalid_argument: bad.ood: /state has a link that leads nowhere in this file, expected a "
        "group");
  CHECK(changed_error([](const OpenModel& f) {
          hid_t group = H5Gcreate2(f.id(), "/deep", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
          for (int depth = 0; depth < 2000; ++depth) {
            const hid_t inner = H5Gcreate2(group, "a", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
            H5Gclose(group);
            group = inner;
          }
          H5Gclose(group);
        }) ==
        "invalid_argument: bad.ood: / has deep, expected calibrated_on, calibration, fitted_on, "
        "model, options, state");
  CHECK(changed_error([](const OpenModel& f) {
          H5Lcreate_hard(f.id(), "/", f.id(), "/state/again", H5P_DEFAULT, H5P_DEFAULT);
        }).starts_with("invalid_argument: bad.ood: /state has again, expected center, "));
  CHECK(changed_error([](const OpenModel& f) {
          f.remove("/state/center");
          H5Gclose(H5Gcreate2(f.id(), "/state/center", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        }) == "invalid_argument: bad.ood: /state/center has a group, expected an array");
}

TEST_CASE("model file errors: fields that are missing or unknown") {
  CHECK(changed_error([](const OpenModel& f) { f.remove("/state/center"); }) ==
        "invalid_argument: bad.ood: /state has no center");
  CHECK(changed_error([](const OpenModel& f) { f.remove("/calibration"); }) ==
        "invalid_argument: bad.ood: / has no calibration");
  CHECK(changed_error([](const OpenModel& f) {
          const double one = 1;
          f.array("/options/power", {}, H5T_NATIVE_DOUBLE, H5T_NATIVE_DOUBLE, &one);
        })
            .starts_with("invalid_argument: bad.ood: /options has power, expected normalize, "
                         "precision, ridge"));
}

TEST_CASE("model file errors: values that cannot be") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(changed_error([&](const OpenModel& f) { f.number("/model/alpha", nan); }) ==
        "invalid_argument: bad.ood: /model/alpha has nan, expected 0 or more, below 1");
  CHECK(changed_error([&](const OpenModel& f) { f.number("/options/ridge", nan); }) ==
        "invalid_argument: bad.ood: mahalanobis: option ridge has nan, expected a number, 0 or "
        "more, 1000000 or less");
  CHECK(changed_error([&](const OpenModel& f) {
          const std::array<double, 5> scores{1, 2, nan, 4, 5};
          f.replace("/calibration/scores", {5}, H5T_NATIVE_DOUBLE, scores.data());
        }) ==
        "invalid_argument: bad.ood: calibration: scores has scores out of order, expected them "
        "sorted");
  CHECK(changed_error([](const OpenModel& f) {
          f.number("/calibration/rows", std::int64_t{-1});
        }) == "invalid_argument: bad.ood: calibration: scores has 5 scores of -1 rows, expected 0");
  CHECK(changed_error([](const OpenModel& f) {
          const std::uint8_t two = 2;
          f.replace("/options/normalize", {}, H5T_NATIVE_UINT8, &two);
        }) == "invalid_argument: bad.ood: /options/normalize has 2, expected 0 or 1");
}

TEST_CASE("model file errors: detectors nested a thousand deep, or by the thousand") {
  const Model fusion = fitted_model("fusion");
  std::string deep = "energy", many = "energy";
  for (int depth = 0; depth < 1000; ++depth) deep = "fusion(detectors=" + deep + ")";
  for (int count = 1; count < 1000; ++count) many += "+msp";
  CHECK(changed_error([&](const OpenModel& f) { f.text("/options/detectors", deep); }, fusion)
            .ends_with("fusion(detectors=fusion(detectors=fusion... has 1000 nested parentheses, "
                       "expected at most 4"));
  CHECK(
      changed_error([&](const OpenModel& f) { f.text("/options/detectors", many); }, fusion)
          .ends_with("energy+msp+msp+msp+msp+msp+msp+msp+msp+m... has 1000 detectors, expected at "
                     "most 256"));
}
