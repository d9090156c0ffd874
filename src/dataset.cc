#include "ood/dataset.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>

#include "checksum.h"
#include "dataset_file.h"
#include "dataset_layout.h"
#include "dataset_rows.h"
#include "errors.h"
#include "hdf5_object.h"

namespace ood {

namespace {

using hdf5::find_array;
using hdf5::find_group;
using hdf5::Object;

constexpr Index kMaxRows = Index{1} << 38;
constexpr Index kMaxHeadValues = Index{1} << 31;
constexpr Index kPlausibleHeadBytes = 64 << 20;  // a larger one is not smaller than gzip makes it
constexpr Index kMaxCompression = 1100;

enum class Numbers { floats, labels };

/// One axis of an array, and the size that it shares with axes of other arrays.
struct Axis {
  std::string_view symbol, unit;
  SharedSize* size;
};
constexpr std::string_view kRows = "rows", kColumns = "columns";

void require_shape(const Object& array, const ArrayInfo& info, const std::vector<Axis>& axes) {
  if (info.shape.size() != axes.size()) {
    std::vector<std::string_view> symbols;
    for (const Axis& axis : axes) symbols.push_back(axis.symbol);
    throw_invalid("{} has shape [{}], expected [{}]", array.where(), fmt::join(info.shape, ", "),
                  fmt::join(symbols, ", "));
  }
  double row_values = 1;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t size = info.shape[i];
    if (size < 1)
      throw_invalid("{} has {} {}, expected 1 or more", array.where(), size, axes[i].unit);
    if (axes[i].unit != kRows)
      row_values *= static_cast<double>(size);
    else if (size > kMaxRows)
      throw_invalid("{} has {} rows, expected at most {}", array.where(), size, kMaxRows);
  }
  if (row_values > kMaxRowValues)
    throw_invalid("{} has shape [{}], expected at most {} values in a row", array.where(),
                  fmt::join(info.shape, ", "), kMaxRowValues);
}

void require_type(const Object& array, const ArrayInfo& info, Numbers numbers) {
  const std::string& type = info.dtype;
  if (numbers == Numbers::floats && type != "float16" && type != "float32" && type != "float64")
    throw_invalid("{} has {} values, expected float16, float32 or float64", array.where(), type);
  if (numbers == Numbers::labels && !type.starts_with("int") && !type.starts_with("uint"))
    throw_invalid("{} has {} values, expected integers of 8 to 64 bits", array.where(), type);
}

/// Reads what a file holds, and checks that its arrays fit together.
class StructureReader {
 public:
  explicit StructureReader(DatasetFile& file)
      : file_(file), root_(hdf5::open_root(file.handle, file.info.path.string())) {}

  void read() {
    DatasetInfo& info = file_.info;
    info.model = hdf5::string_attribute(root_, "model");
    info.id_dataset = hdf5::string_attribute(root_, "id_dataset");

    // first, because the head is the reference for all widths; its arrays are listed last
    if (const auto group = find_group(root_, "head")) read_head(*group);
    const auto head_arrays = static_cast<std::ptrdiff_t>(info.arrays.size());
    for (const char* name : kSplits)
      if (const auto group = find_group(root_, name)) read_split(*group);
    for (const char* name : kSplitFamilies)
      if (const auto family = find_group(root_, name))
        for (const std::string& child : names_in(*family))
          if (const auto group = find_group(*family, child)) read_split(*group);
    if (info.splits.empty())
      throw_invalid("{} has no split, expected {}", root_.where(), kSplitNames);
    std::rotate(info.arrays.begin(), info.arrays.begin() + head_arrays, info.arrays.end());

    info.dim = dim_.size();
    info.classes = classes_.size();
    for (SplitInfo& split : info.splits) {
      split.source.dim = info.dim;
      split.source.classes = info.classes;
    }
  }

 private:
  /// Checks and lists an array; false if the group has none of this name.
  bool add_array(const Object& group, const std::string& name, const std::vector<Axis>& axes,
                 Numbers numbers = Numbers::floats) {
    const auto array = find_array(group, name);
    if (!array) return false;
    ArrayInfo info = hdf5::describe(*array);
    require_shape(*array, info, axes);
    require_type(*array, info, numbers);
    hdf5::require_stored(*array, info);
    for (std::size_t i = 0; i < axes.size(); ++i)
      axes[i].size->require(info.shape[i], array->file, array->path, axes[i].unit);
    file_.info.arrays.push_back(std::move(info));
    return true;
  }

  void read_split(const Object& group) {
    SplitInfo split;
    split.name = group.path.substr(1);
    if (has_kind(split.name)) split.kind = hdf5::string_attribute(group, "kind");
    if (!is_kind(split.kind))
      throw_invalid("{} has kind {}, expected near or far", group.where(), split.kind);

    SourceInfo& source = split.source;
    source.name = group.file + ": " + group.path;
    SharedSize rows, copies;
    const Axis n{"n", kRows, &rows}, k{"K", "copies", &copies};
    const Axis d{"D", kColumns, &dim_}, c{"C", kColumns, &classes_};
    source.has.features = add_array(group, "features", {n, d});
    source.has.logits = add_array(group, "logits", {n, c});
    source.has.labels = add_array(group, "labels", {n}, Numbers::labels);
    if (const auto layers = find_group(group, "layers"))
      for (const std::string& name : names_in(*layers)) {
        add_array(*layers, name, {n, {"D", kColumns, &layers_[name]}});
        source.layers[name] = layers_[name].size();
      }
    source.has.layers = !source.layers.empty();
    if (const auto group_of_copies = find_group(group, "copies")) {
      source.has.copy_features = add_array(*group_of_copies, "features", {k, n, d});
      source.has.copy_logits = add_array(*group_of_copies, "logits", {k, n, c});
    }
    if (!source.has.any())
      throw_invalid(
          "{} has no known array, expected features, logits, labels, layers/<name>, "
          "copies/features or copies/logits",
          group.where());
    source.has.head = file_.head.has_value();
    source.rows = rows.size();
    source.copies = copies.size();
    file_.info.splits.push_back(std::move(split));
  }

  void read_head(const Object& group) {
    const bool weight =
        add_array(group, "weight", {{"C", kRows, &classes_}, {"D", kColumns, &dim_}});
    const bool bias = add_array(group, "bias", {{"C", "entries", &classes_}});
    if (weight != bias)
      throw_invalid("{} has only {}, expected weight and bias", group.where(),
                    weight ? "weight" : "bias");
    if (!weight) return;
    Head& head = file_.head.emplace();
    require_plausible_head();
    head.weight.resize(classes_.size(), dim_.size());
    head.bias.resize(classes_.size());
    read_head_array(group, "weight", head.weight.data());
    read_head_array(group, "bias", head.bias.data());
  }

  /// A small file that claims a large head must not make us allocate it.
  void require_plausible_head() const {
    const ArrayInfo& weight = file_.info.arrays.front();
    const Index values = classes_.size() * dim_.size();
    if (values > kMaxHeadValues)
      throw_invalid("{}: {} has {} values, expected at most {}", root_.file, weight.path, values,
                    kMaxHeadValues);
    if (4 * values > kPlausibleHeadBytes && 4 * values / kMaxCompression > weight.bytes)
      throw_invalid("{}: {} has {} values in {} bytes, expected less compression", root_.file,
                    weight.path, values, weight.bytes);
  }

  void read_head_array(const Object& group, const std::string& name, float* to) {
    auto array = find_array(group, name);
    const ArrayInfo info = hdf5::describe(*array);
    Field field{name, {info.shape.begin(), info.shape.end()}};
    const FieldArray stored = open_for_reading(std::move(field), std::move(*array));
    const Index rows = stored.field.rows();
    read_rows(stored, 0, rows, to, rows);
    if (!Eigen::Map<const Vector>(to, rows * stored.field.width()).allFinite())
      throw_invalid("{} has NaN or infinity, expected finite values", stored.array.where());
  }

  DatasetFile& file_;
  Object root_;
  SharedSize dim_, classes_;
  std::map<std::string, SharedSize> layers_;
};

}  // namespace

struct Dataset::Impl : DatasetFile {
  mutable std::once_flag fingerprint_once;
  mutable std::string fingerprint;
};

Dataset::Dataset(const std::filesystem::path& path) {
  const hdf5::Section section;
  auto impl = std::make_shared<Impl>();
  impl->info.path = path;
  impl->handle = hdf5::open_file(path);
  StructureReader(*impl).read();
  impl_ = std::move(impl);
}

Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;
Dataset::~Dataset() = default;

const DatasetInfo& Dataset::info() const { return impl_->info; }

const Head* Dataset::head() const { return impl_->head ? &*impl_->head : nullptr; }

const SplitInfo* Dataset::find(std::string_view split) const {
  const auto found = std::ranges::find(impl_->info.splits, split, &SplitInfo::name);
  return found == impl_->info.splits.end() ? nullptr : &*found;
}

const SplitInfo& Dataset::at(std::string_view split) const {
  if (const SplitInfo* found = find(split)) return *found;
  std::vector<std::string> names;
  for (const SplitInfo& each : impl_->info.splits) names.push_back(each.name);
  throw_invalid("{}: has no split {}, expected one of {}", impl_->info.path.string(), split,
                fmt::join(names, ", "));
}

std::unique_ptr<BatchSource> Dataset::source(std::string_view split) const {
  return open_source(impl_, at(split));
}

std::unique_ptr<BatchSource> Dataset::source(std::string_view split, Index begin, Index end,
                                             std::optional<Index> classes) const {
  return open_source(impl_, at(split), begin, end, classes);
}

std::string fingerprint(const std::filesystem::path& path) { return checksum(path); }

std::string Dataset::fingerprint() const {
  std::call_once(impl_->fingerprint_once, [&] { impl_->fingerprint = checksum(impl_->info.path); });
  return impl_->fingerprint;
}

std::string hdf5_version() {
  const hdf5::Section section;
  unsigned major = 0, minor = 0, release = 0;
  hdf5::check(H5get_libversion(&major, &minor, &release), "HDF5");
  return fmt::format("{}.{}.{}", major, minor, release);
}

FitSources::FitSources(const Dataset& dataset) {
  constexpr std::string_view kOodVal = "ood_val/";
  if (dataset.find("train") != nullptr) train = dataset.source("train");
  if (dataset.find("id_val") != nullptr) id_val = dataset.source("id_val");
  for (const SplitInfo& split : dataset.info().splits)
    if (split.name.starts_with(kOodVal))
      ood_val.emplace_back(split.name.substr(kOodVal.size()), dataset.source(split.name));
}

FitData FitSources::data() const {
  FitData data{.train = train.get(), .id_val = id_val.get()};
  for (const auto& [name, source] : ood_val) data.ood_val.emplace_back(name, source.get());
  return data;
}

}  // namespace ood
