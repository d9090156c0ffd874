#include "ood/model_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>

#include "checksum.h"
#include "errors.h"
#include "model_file_fields.h"
#include "ood/version.h"
#include "partial_file.h"

namespace ood {

namespace {

using hdf5::check;
using hdf5::Handle;
using hdf5::Object;
using hdf5::own;

// Of the file: what HDF5 calls its user block, which it skips.
constexpr std::size_t kHeaderBytes = 512;
constexpr std::string_view kMagic = "libood model\n";
constexpr Index kFormat = 1;

// Names stand in the groups themselves, however many there are, and not in a heap of their own: HDF5 1.10
// crashes on such heaps if they are damaged.
constexpr unsigned kMostCompactLinks = 65'535;

void require_compact(const Object& group) {
  H5G_info_t info;
  check(H5Gget_info(group.id, &info), group.unreadable());
  if (info.storage_type != H5G_STORAGE_TYPE_COMPACT)
    throw_invalid("{} has its names in a table or heap, expected them in the group itself",
                  group.where());
}

// Of the HDF5 file: its groups, each with an array for each field.
constexpr const char *kModel = "model", *kOptions = "options", *kState = "state",
                     *kFittedOn = "fitted_on", *kCalibration = "calibration",
                     *kCalibratedOn = "calibrated_on";
constexpr std::array kGroups = {kCalibratedOn, kCalibration, kFittedOn, kModel, kOptions, kState};

/// What stands in /model.
struct About {
  std::string detector, version;
  double alpha = 0;

  void visit(FieldVisitor& v) {
    v.state("detector", detector);
    v.state("version", version);
    v.state("alpha", alpha);
  }
};

void visit(RowsUsed& rows, FieldVisitor& v) {
  v.state("file", rows.file);
  v.state("fingerprint", rows.fingerprint);
  v.state("split", rows.split);
  v.state("rows", rows.rows);
  v.state("dim", rows.dim);
  v.state("classes", rows.classes);
  Index part = rows.part ? 1 : 0;
  v.state("part", part);
  rows.part = part != 0;
}

/// What follows from calibration and alpha, for readers without libood: the lowest score that is accepted, of
/// each class if by class.
VectorD thresholds_of(const Model& model) {
  const Calibration& calibration = model.calibration;
  const Index groups = calibration.by_class() ? calibration.classes() : model.calibrated() ? 1 : 0;
  VectorD thresholds(groups);
  for (Index c = 0; c < groups; ++c) thresholds[c] = calibration.threshold(model.alpha, c);
  return thresholds;
}

void require_valid(const char* group, const RowsUsed& rows) {
  constexpr Index kMostWidth = Index{1} << 24;
  if (rows.rows < 0) throw_invalid("/{}/rows has {}, expected 0 or more", group, rows.rows);
  for (const auto& [name, width] : {std::pair("dim", rows.dim), std::pair("classes", rows.classes)})
    if (width < 0 || width > kMostWidth)
      throw_invalid("/{}/{} has {}, expected 0 to {}", group, name, width, kMostWidth);
}

std::string header(std::uintmax_t bytes, const std::string& sum) {
  std::string text = fmt::format("{}format {}\nbytes {}\nxxh3 {}\nHDF5 begins at byte {}.\n",
                                 kMagic, kFormat, bytes, sum, kHeaderBytes);
  text.resize(kHeaderBytes, '\0');
  return text;
}

/// The number or word after `label`, up to the end of the line; the rest of the text goes on there.
std::string_view take(std::string_view& text, std::string_view label) {
  const std::size_t end = text.find('\n');
  if (!text.starts_with(label) || end == text.npos) return {};
  const std::string_view value = text.substr(label.size(), end - label.size());
  text.remove_prefix(end + 1);
  return value;
}

/// Checks all bytes of a file before HDF5 reads any: it trusts what it reads. Returns how many there are.
std::int64_t require_whole(const std::filesystem::path& path) {
  const std::string name = path.string();
  hdf5::require_file(path);
  std::ifstream file(path, std::ios::binary);
  std::string block(kHeaderBytes, '\0');
  if (!file) throw std::runtime_error(name + ": cannot be opened");
  file.read(block.data(), std::ssize(block));
  if (file.bad()) throw std::runtime_error(name + ": cannot be read");
  block.resize(static_cast<std::size_t>(file.gcount()));
  if (!block.starts_with(kMagic)) {
    const hdf5::Section section;
    const bool other = H5Fis_hdf5(path.c_str()) > 0;
    throw std::runtime_error(
        fmt::format("{}: is {}, expected a model file, as `ood fit --out` writes", name,
                    other ? "another HDF5 file" : "not a model file"));
  }
  std::string_view text(block);
  text.remove_prefix(kMagic.size());
  if (text.find('\n') == text.npos)
    throw std::runtime_error(fmt::format("{}: is truncated: has {} bytes, expected more than {}",
                                         name, block.size(), kHeaderBytes));
  if (const std::string_view format = take(text, "format "); format != fmt::format("{}", kFormat))
    throw_invalid("{}: has format {}, expected {}: another version of libood wrote it", name,
                  format.substr(0, 20), kFormat);
  const std::string_view declared = take(text, "bytes "), sum = take(text, "xxh3 ");
  const auto bytes = std::filesystem::file_size(path);
  if (declared != fmt::format("{}", bytes)) {
    std::uintmax_t whole = 0;
    std::from_chars(declared.data(), declared.data() + declared.size(), whole);
    const bool cut = whole > bytes || block.size() < kHeaderBytes;
    throw std::runtime_error(fmt::format("{}: is {}: has {} bytes, expected {}", name,
                                         cut ? "truncated" : "damaged", bytes,
                                         declared.substr(0, 20)));
  }
  if (const std::string got = checksum(path, kHeaderBytes); got != sum)
    throw std::runtime_error(
        fmt::format("{}: is damaged: has checksum {}, expected {}", name, got, sum.substr(0, 32)));
  return static_cast<std::int64_t>(bytes);
}

/// What is read from a file is not trusted either: an error says which file.
template <class Read>
auto naming_file(const std::string& name, const Read& read) {
  try {
    return read();
  } catch (const std::logic_error& error) {  // std::invalid_argument and std::domain_error
    const std::string_view what = error.what();
    if (what.starts_with(name + ": ")) throw std::invalid_argument(error.what());
    throw_invalid("{}: {}", name, what);
  }
}

Model read_model(const std::filesystem::path& path, std::int64_t budget) {
  const std::string name = path.string();
  const hdf5::Section section;
  const Handle file = hdf5::open_file(path);
  const Object root = hdf5::open_root(file, name);
  require_compact(root);
  for (const std::string& group : hdf5::names_in(root))
    if (std::ranges::find(kGroups, group) == kGroups.end())
      throw_invalid("{} has {}, expected {}", root.where(), group, fmt::join(kGroups, ", "));
  const auto group = [&](const char* wanted) {
    auto found = hdf5::find_group(root, wanted);
    if (!found) throw_invalid("{} has no {}", root.where(), wanted);
    require_compact(*found);
    return std::move(*found);
  };
  const auto read = [&](const char* of, const auto& visit_fields) {
    const FieldGroups groups{{}, group(of)};
    FieldFileReader reader(groups, budget);
    visit_fields(reader);
    reader.finish();
  };

  Model model{.detector = nullptr};
  About about;
  read(kModel, [&](FieldVisitor& v) { about.visit(v); });
  if (!(about.alpha >= 0 && about.alpha < 1))
    throw_invalid("{}: /model/alpha has {}, expected 0 or more, below 1", name, about.alpha);
  model.version = about.version;
  model.alpha = about.alpha;
  read(kFittedOn, [&](FieldVisitor& v) { visit(model.fitted_on, v); });
  read(kCalibratedOn, [&](FieldVisitor& v) { visit(model.calibrated_on, v); });
  VectorD thresholds;
  read(kCalibration, [&](FieldVisitor& v) {
    model.calibration.visit(v);
    v.state("thresholds", thresholds);
  });
  require_valid(kFittedOn, model.fitted_on);
  require_valid(kCalibratedOn, model.calibrated_on);
  model.calibration.finish_loading();
  if (const VectorD expected = thresholds_of(model);
      thresholds.size() != expected.size() || (thresholds.array() != expected.array()).any())
    throw_invalid("/calibration/thresholds has other values than those of alpha {} and the scores",
                  model.alpha);

  model.detector = make_detector(about.detector);
  const FieldGroups groups{group(kOptions), group(kState)};
  FieldFileReader reader(groups, budget);
  model.detector->visit_all(reader);
  reader.finish();
  model.detector->finish_loading();
  return model;
}

Object make_group(hid_t file, const std::string& name, const char* group) {
  const Handle creation = hdf5::timeless(H5P_GROUP_CREATE);
  check(H5Pset_link_phase_change(creation, kMostCompactLinks, 0), name);
  return {own(H5Gcreate2(file, group, H5P_DEFAULT, creation, H5P_DEFAULT), H5Gclose, name), name,
          fmt::format("/{}", group)};
}

void write_groups(const Model& model, hid_t file, const std::string& name) {
  const auto write = [&](const char* to, const auto& visit_fields) {
    const FieldGroups groups{{}, make_group(file, name, to)};
    FieldFileWriter writer(groups);
    visit_fields(writer);
  };
  // visitors may change what they are shown; this one does not
  auto& shown = const_cast<Model&>(model);
  About about{std::string(model.detector->name()), OOD_VERSION, model.alpha};
  write(kModel, [&](FieldVisitor& v) { about.visit(v); });
  write(kFittedOn, [&](FieldVisitor& v) { visit(shown.fitted_on, v); });
  write(kCalibratedOn, [&](FieldVisitor& v) { visit(shown.calibrated_on, v); });
  VectorD thresholds = thresholds_of(model);
  write(kCalibration, [&](FieldVisitor& v) {
    shown.calibration.visit(v);
    v.state("thresholds", thresholds);
  });
  const FieldGroups groups{make_group(file, name, kOptions), make_group(file, name, kState)};
  FieldFileWriter writer(groups);
  model.detector->visit_all(writer);
}

void write_hdf5(const Model& model, const std::filesystem::path& path, const std::string& name) {
  const hdf5::Section section;
  const Handle creation = hdf5::timeless(H5P_FILE_CREATE);
  check(H5Pset_userblock(creation, kHeaderBytes), name);
  const Handle access = own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, name);
  // smaller than the default's, and every HDF5 since 1.8 reads it
  check(H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18), name);
  Handle file = own(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation, access), H5Fclose,
                    name + ": cannot be created");
  try {
    write_groups(model, file, name);
    check(H5Fflush(file, H5F_SCOPE_GLOBAL), name + ": cannot be written");
  } catch (...) {
    // HDF5 writes when it closes, and a failure of that makes it crash at exit: give a full disk room
    std::error_code ignored;
    std::filesystem::resize_file(path, 0, ignored);
    throw;
  }
  check(file.close(), name + ": cannot be written");
}

}  // namespace

Inputs Model::needs() const {
  return detector->needs().score.with({.logits = calibration.by_class()});
}

void Model::p_values(const Batch& batch, std::span<const float> scores,
                     std::span<double> out) const {
  const auto require = [](const char* what, const std::optional<MatrixView>& rows, Index known) {
    if (rows && rows->rows() > 0 && known > 0 && rows->cols() != known)
      throw_invalid("p_values: {} has {} columns, expected {} as the rows of the calibration", what,
                    rows->cols(), known);
  };
  const Inputs read = needs();
  if (read.features) require("features", batch.features, calibrated_on.dim);
  if (read.logits) require("logits", batch.logits, calibrated_on.classes);
  calibration.p_values(batch, scores, out);
}

void save_model(const Model& model, const std::filesystem::path& path) {
  if (!model.detector || !model.detector->fitted())
    throw std::logic_error(fmt::format("save_model: {} is not fitted, expected fit before saving",
                                       model.detector ? model.detector->name() : "the detector"));
  if (!(model.alpha >= 0 && model.alpha < 1))
    throw_invalid("save_model: alpha has {}, expected 0 or more, below 1", model.alpha);
  const std::string name = path.string();
  PartialFile whole(path);
  write_hdf5(model, whole.partial(), name);
  const std::string text =
      header(std::filesystem::file_size(whole.partial()), checksum(whole.partial(), kHeaderBytes));
  std::fstream file(whole.partial(), std::ios::binary | std::ios::in | std::ios::out);
  file.write(text.data(), std::ssize(text));
  file.close();
  if (!file) throw std::runtime_error(name + ": cannot be written");
  whole.publish();
}

Model load_model(const std::filesystem::path& path) {
  const std::int64_t bytes = require_whole(path);
  return naming_file(path.string(), [&] { return read_model(path, bytes); });
}

}  // namespace ood
