#include "ood/batch.h"

#include <algorithm>

#include "errors.h"

namespace ood {

namespace {

struct InputMember {
  const char* name;
  bool Inputs::*member;
};
constexpr InputMember kInputMembers[] = {
    {"features", &Inputs::features},
    {"logits", &Inputs::logits},
    {"labels", &Inputs::labels},
    {"layers", &Inputs::layers},
    {"copies/features", &Inputs::copy_features},
    {"copies/logits", &Inputs::copy_logits},
    {"head", &Inputs::head},
};

/// More classes than any data set has: a larger label is a mistake, not a class.
constexpr std::int64_t kMostClasses = std::int64_t{1} << 24;

Tensor3View view_rows(const float* data, const std::array<std::size_t, 3>& shape,
                      const std::array<std::ptrdiff_t, 3>& strides) {
  // xtensor wants the number of elements here, also where strides leave gaps between them
  const std::size_t size = shape[0] * shape[1] * shape[2];
  return xt::adapt(std::move(data), size, xt::no_ownership(), shape, strides);
}

/// Rows [begin, begin + count) of [K, n, D], for views and owned tensors.
template <class Tensor>
Tensor3View slice_copies(const Tensor& tensor, Index begin, Index count) {
  const auto& strides = tensor.strides();
  // xtensor gives an axis of length 1 the stride 0: harmless here, nothing moves along it
  return view_rows(tensor.data() + begin * strides[1],
                   {tensor.shape()[0], static_cast<std::size_t>(count), tensor.shape()[2]},
                   {strides[0], strides[1], strides[2]});
}

/// A field of a batch as messages call it, in two parts: nothing is allocated until one is written.
struct FieldRows {
  std::string_view group, name;
  Index rows;
};

template <class Visit>
void for_each_field_rows(const Batch& batch, const Visit& visit) {
  const auto copy_rows = [](const Tensor3View& copies) {
    return static_cast<Index>(copies.shape()[1]);
  };
  if (batch.features) visit({"", "features", batch.features->rows()});
  if (batch.logits) visit({"", "logits", batch.logits->rows()});
  if (batch.labels) visit({"", "labels", std::ssize(*batch.labels)});
  for (const auto& [name, layer] : batch.layers) visit({"layers/", name, layer.rows()});
  if (batch.copy_features) visit({"copies/", "features", copy_rows(*batch.copy_features)});
  if (batch.copy_logits) visit({"copies/", "logits", copy_rows(*batch.copy_logits)});
}

SourceInfo describe(const Batch& arrays, const Head* head, std::string name) {
  SourceInfo info;
  info.name = std::move(name);
  info.rows = arrays.rows();
  info.has = {.features = arrays.features.has_value(),
              .logits = arrays.logits.has_value(),
              .labels = arrays.labels.has_value(),
              .layers = !arrays.layers.empty(),
              .copy_features = arrays.copy_features.has_value(),
              .copy_logits = arrays.copy_logits.has_value(),
              .head = head != nullptr};
  if (head != nullptr) {
    if (head->bias.size() != head->weight.rows())
      throw_invalid("{}: head bias has {} entries, expected {} as the weight has rows", info.name,
                    head->bias.size(), head->weight.rows());
    info.dim = head->weight.cols();
    info.classes = head->weight.rows();
  }
  const auto require_width = [&](Index& expected, Index got, const char* what) {
    if (got == 0) throw_invalid("{}: {} has 0 columns, expected 1 or more", info.name, what);
    if (expected == 0) expected = got;
    if (got != expected)
      throw_invalid("{}: {} has {} columns, expected {}", info.name, what, got, expected);
  };
  if (arrays.features) require_width(info.dim, arrays.features->cols(), "features");
  if (arrays.logits) require_width(info.classes, arrays.logits->cols(), "logits");
  const auto require_copies = [&](const std::optional<Tensor3View>& copies, Index& width,
                                  const char* what) {
    if (!copies) return;
    require_width(width, static_cast<Index>(copies->shape()[2]), what);
    const auto count = static_cast<Index>(copies->shape()[0]);
    if (count == 0) throw_invalid("{}: {} has 0 copies, expected 1 or more", info.name, what);
    if (info.copies == 0) info.copies = count;
    if (count != info.copies)
      throw_invalid("{}: {} has {} copies, expected {}", info.name, what, count, info.copies);
  };
  require_copies(arrays.copy_features, info.dim, "copies/features");
  require_copies(arrays.copy_logits, info.classes, "copies/logits");
  if (info.classes == 0 && arrays.labels && !arrays.labels->empty()) {
    const std::int64_t largest = std::ranges::max(*arrays.labels);
    if (largest < 0 || largest >= kMostClasses)
      throw_invalid("{}/labels has {} as its largest, expected [0, {})", info.name, largest,
                    kMostClasses);
    info.classes = largest + 1;
  }
  for (const auto& [layer, view] : arrays.layers) {
    if (view.cols() == 0)
      throw_invalid("{}: layers/{} has 0 columns, expected 1 or more", info.name, layer);
    info.layers[layer] = view.cols();
  }
  return info;
}

}  // namespace

bool Inputs::any() const {
  return std::ranges::any_of(kInputMembers,
                             [this](const InputMember& input) { return this->*input.member; });
}

std::vector<std::string> Inputs::names() const {
  std::vector<std::string> names;
  for (const auto& [name, member] : kInputMembers)
    if (this->*member) names.emplace_back(name);
  return names;
}

Inputs Inputs::named(const std::vector<std::string>& names) {
  Inputs inputs;
  for (const std::string& name : names) {
    const auto found = std::ranges::find(kInputMembers, name, &InputMember::name);
    if (found == std::end(kInputMembers)) throw_invalid("unknown array {}", name);
    inputs.*found->member = true;
  }
  return inputs;
}

Inputs Inputs::without(const Inputs& other) const {
  Inputs rest;
  for (const auto& [name, member] : kInputMembers) rest.*member = this->*member && !(other.*member);
  return rest;
}

Inputs Inputs::with(const Inputs& other) const {
  Inputs both;
  for (const auto& [name, member] : kInputMembers) both.*member = this->*member || other.*member;
  return both;
}

Index Batch::rows() const {
  std::optional<FieldRows> first;
  for_each_field_rows(*this, [&](const FieldRows& field) {
    if (!first) first = field;
    if (field.rows != first->rows)
      throw_invalid("batch: {}{} has {} rows, expected {} as {}{} has", field.group, field.name,
                    field.rows, first->rows, first->group, first->name);
  });
  return first ? first->rows : 0;
}

Batch Batch::slice(Index begin, Index count) const {
  Batch part;
  part.first_row = first_row + begin;
  if (features) part.features = features->middle_rows(begin, count);
  if (logits) part.logits = logits->middle_rows(begin, count);
  if (labels)
    part.labels = labels->subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
  for (const auto& [name, layer] : layers) part.layers[name] = layer.middle_rows(begin, count);
  if (copy_features) part.copy_features.emplace(slice_copies(*copy_features, begin, count));
  if (copy_logits) part.copy_logits.emplace(slice_copies(*copy_logits, begin, count));
  return part;
}

BatchSource& FitData::in_distribution(Split split) const {
  BatchSource* const wanted = split == Split::train ? train : id_val;
  BatchSource* const other = split == Split::train ? id_val : train;
  if (wanted == nullptr && other == nullptr)
    throw_invalid("no rows to fit on, expected train or id_val");
  return wanted != nullptr ? *wanted : *other;
}

MemorySource::MemorySource(const Batch& arrays, const Head* head, Index batch_rows,
                           std::string name)
    : arrays_(arrays),
      head_(head),
      batch_rows_(batch_rows),
      info_(describe(arrays, head, std::move(name))) {
  arrays_.first_row = 0;  // the arrays may be a slice of others
  if (batch_rows < 1)
    throw_invalid("{}: batch_rows has {}, expected 1 or more", info_.name, batch_rows);
}

void MemorySource::read(const Inputs& wanted, const std::function<void(const Batch&)>& visit) {
  Batch chosen = arrays_;
  if (!wanted.features) chosen.features.reset();
  if (!wanted.logits) chosen.logits.reset();
  if (!wanted.labels) chosen.labels.reset();
  if (!wanted.layers) chosen.layers.clear();
  if (!wanted.copy_features) chosen.copy_features.reset();
  if (!wanted.copy_logits) chosen.copy_logits.reset();
  for (Index begin = 0; begin < info_.rows; begin += batch_rows_)
    visit(chosen.slice(begin, std::min(batch_rows_, info_.rows - begin)));
}

BatchBuffer::BatchBuffer(const SourceInfo& info, const Inputs& wanted, Index capacity)
    : capacity_(capacity) {
  fields_ = wanted.without(wanted.without(info.has));
  if (fields_.features) features.resize(capacity, info.dim);
  if (fields_.logits) logits.resize(capacity, info.classes);
  if (fields_.labels) labels.resize(static_cast<std::size_t>(capacity));
  if (fields_.layers)
    for (const auto& [name, width] : info.layers) layers[name].resize(capacity, width);
  const auto shape = [&](Index width) {
    return std::array{static_cast<std::size_t>(info.copies), static_cast<std::size_t>(capacity),
                      static_cast<std::size_t>(width)};
  };
  if (fields_.copy_features) copy_features.resize(shape(info.dim));
  if (fields_.copy_logits) copy_logits.resize(shape(info.classes));
}

void BatchBuffer::append(const Batch& batch) {
  const Index count = batch.rows();
  const auto rows = [&] { return xt::range(rows_, rows_ + count); };
  if (fields_.features) features.middleRows(rows_, count) = *batch.features;
  if (fields_.logits) logits.middleRows(rows_, count) = *batch.logits;
  if (fields_.labels) std::ranges::copy(*batch.labels, labels.begin() + rows_);
  for (auto& [name, layer] : layers) layer.middleRows(rows_, count) = batch.layers.at(name);
  if (fields_.copy_features)
    xt::view(copy_features, xt::all(), rows(), xt::all()) = *batch.copy_features;
  if (fields_.copy_logits) xt::view(copy_logits, xt::all(), rows(), xt::all()) = *batch.copy_logits;
  rows_ += count;
}

void BatchBuffer::clear(Index first_row) {
  rows_ = 0;
  first_row_ = first_row;
}

Batch BatchBuffer::view() const {
  Batch batch;
  batch.first_row = first_row_;
  if (fields_.features) batch.features = MatrixView(features).middle_rows(0, rows_);
  if (fields_.logits) batch.logits = MatrixView(logits).middle_rows(0, rows_);
  if (fields_.labels) batch.labels = Labels(labels).first(static_cast<std::size_t>(rows_));
  for (const auto& [name, layer] : layers)
    batch.layers[name] = MatrixView(layer).middle_rows(0, rows_);
  if (fields_.copy_features) batch.copy_features.emplace(slice_copies(copy_features, 0, rows_));
  if (fields_.copy_logits) batch.copy_logits.emplace(slice_copies(copy_logits, 0, rows_));
  return batch;
}

}  // namespace ood
