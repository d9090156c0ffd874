/// What the tests of searches share: data, metrics counted pair by pair, and a detector that writes
/// down which rows it was given.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "ood/registry.h"
#include "ood/search.h"
#include "ood/stream.h"
#include "synthetic.h"

namespace ood::test {

inline constexpr Index kDim = 6, kClasses = 4;
inline constexpr std::array kCriterionValues = {Criterion::ood_val_auroc, Criterion::ood_val_fpr95,
                                                Criterion::id_likelihood, Criterion::pseudo_ood};

inline const Synthetic& train() {
  static const auto data = make_synthetic(300, kDim, kClasses, 1);
  return data;
}
inline const Synthetic& id_val() {
  static const auto data = make_synthetic(120, kDim, kClasses, 2);
  return data;
}
inline const Synthetic& near() {
  static const auto data = make_synthetic(70, kDim, kClasses, 3, 0.01);
  return data;
}
inline const Synthetic& far() {
  static const auto data = make_synthetic(90, kDim, kClasses, 4, 1.5);
  return data;
}

// --- Metrics, counted ---------------------------------------------------------------------------

using Scores = std::vector<float>;

inline double counted_auroc(const Scores& id, const Scores& ood) {
  double pairs = 0;
  for (const float a : id)
    for (const float b : ood) pairs += a > b ? 1.0 : a == b ? 0.5 : 0.0;
  return pairs / static_cast<double>(id.size() * ood.size());
}

inline double counted_fpr95(const Scores& id, const Scores& ood) {
  float threshold = -std::numeric_limits<float>::infinity();  // the highest that accepts 95 %
  for (const float t : id)
    if (20 * std::ranges::count_if(id, [&](float s) { return s >= t; }) >= 19 * std::ssize(id))
      threshold = std::max(threshold, t);
  return static_cast<double>(std::ranges::count_if(ood, [&](float s) { return s >= threshold; })) /
         static_cast<double>(ood.size());
}

inline Scores scores_of(const std::string& name, const OptionMap& options, const Batch& batch) {
  const auto detector = make_detector(name, options);
  MemorySource source(train().batch(), &train().head);
  if (detector->needs().fit.any()) detector->fit(source);
  return detector->score(batch);
}

// --- A detector of the tests alone --------------------------------------------------------------

using Row = std::vector<float>;

inline Row row_of(const MatrixView& rows, Index i) {
  return {rows.row_data(i), rows.row_data(i) + rows.cols()};
}

/// What Probe was given.
struct Record {
  struct Fit {
    std::vector<Row> rows;
    std::vector<std::int64_t> labels;
    Index classes = 0;
  };
  std::vector<Fit> fits;
  std::set<Row> scored;
  std::mutex mutex;
};

/// s(z) = z_0 - |x - 0.7| z_1, and a record of the rows that it saw.
class Probe final : public Detector {
 public:
  static constexpr double kPeak = 0.7;

  explicit Probe(const Needs& needs = {.fit = {.features = true, .labels = true},
                                       .score = {.features = true}})
      : needs_(needs) {}
  std::string_view name() const override { return "probe"; }
  Needs needs() const override { return needs_; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Probe>(*this); }
  void visit(FieldVisitor& v) override {
    v.option("x", x_, Range{.min = 0, .max = 1}, "best at 0.7");
    v.option("idle", idle_, Range::at_least(0), "changes nothing");
    v.option("upside_down", upside_down_, "negates scores");
    v.option("broken", broken_, "scores NaN");
  }
  Diagnostics found() const override {
    return {.values = {}, .per_class = {}, .warnings = {std::to_string(idle_) + " is idle"}};
  }
  Record& record() const { return *record_; }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    Record::Fit fit;
    fit.classes = source.info().classes;
    stream(source, needs_.fit, exec, [&](const Batch& batch) {
      for (Index i = 0; i < batch.rows() && batch.features; ++i)
        fit.rows.push_back(row_of(*batch.features, i));
      if (batch.labels)
        fit.labels.insert(fit.labels.end(), batch.labels->begin(), batch.labels->end());
    });
    record_->fits.push_back(fit);
  }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    const MatrixView z = needs_.score.features ? *tile.features : *tile.logits;
    const std::lock_guard lock(record_->mutex);
    for (Index i = 0; i < z.rows(); ++i) {
      record_->scored.insert(row_of(z, i));
      const auto s = static_cast<float>(z(i, 0) - std::abs(x_ - kPeak) * z(i, 1));
      out[static_cast<std::size_t>(i)] = broken_ ? std::nanf("") : upside_down_ ? -s : s;
    }
  }

  Needs needs_;
  double x_ = 0.5;
  Index idle_ = 0;
  bool upside_down_ = false, broken_ = false;
  std::shared_ptr<Record> record_ = std::make_shared<Record>();  // of all clones together
};

inline Batch batch_of(const Matrix& features, const std::vector<std::int64_t>* labels = nullptr) {
  Batch batch;
  batch.features = features;
  if (labels != nullptr) batch.labels = *labels;
  return batch;
}

Batch batch_of(Matrix&&, const std::vector<std::int64_t>* = nullptr) = delete;  // a batch is a view

/// Rows (0, 1), of which Probe ranks the share 1 - |x - 0.7| above the rows (-j / n, 0).
struct PeakedData {
  Matrix id = Matrix::Zero(40, 2), outliers = Matrix::Zero(1000, 2);
  std::vector<std::int64_t> labels = std::vector<std::int64_t>(40, 0);
  PeakedData() {
    id.col(1).setOnes();
    for (Index j = 0; j < outliers.rows(); ++j)
      outliers(j, 0) = -(static_cast<float>(j) + 0.5f) / static_cast<float>(outliers.rows());
  }
  SearchResult search_in(const Detector& detector, const SearchSpec& spec) const {
    MemorySource source(batch_of(id, &labels)), val(batch_of(id)), far(batch_of(outliers));
    return search(detector, spec, {.train = source, .id_val = &val, .ood_val = {{"far", &far}}});
  }
};

/// A source that says what it has, and cannot be read.
class Unreadable final : public BatchSource {
 public:
  explicit Unreadable(SourceInfo info) : info_(std::move(info)) {}
  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return &train().head; }
  void read(const Inputs&, const std::function<void(const Batch&)>&) override {
    throw std::logic_error("read");
  }

 private:
  SourceInfo info_;
};

inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return std::string("invalid_argument: ") + error.what();
  } catch (const std::domain_error& error) {
    return std::string("domain_error: ") + error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "no error";
}

inline bool same_points(const std::vector<SearchPoint>& a, const std::vector<SearchPoint>& b) {
  return std::ranges::equal(a, b, [](const SearchPoint& p, const SearchPoint& q) {
    return p.options == q.options && p.value == q.value && p.parts == q.parts;
  });
}

inline double part(const SearchPoint& point, const std::string& name) {
  for (const auto& known : point.parts)
    if (known.first == name) return known.second;
  return std::nan("");
}

}  // namespace ood::test
