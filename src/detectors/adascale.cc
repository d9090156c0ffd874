#include "ood/detectors/adascale.h"

#include <algorithm>

#include "errors.h"
#include "ood/activation_shaping.h"
#include "ood/kernels.h"
#include "ood/kernels/elements.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

namespace {

constexpr std::array<std::string_view, 2> kVariantNames = {"a", "l"};

Index percent_of(Index dim, double percent) {
  return std::max<Index>(1, static_cast<Index>(static_cast<double>(dim) * percent / 100));
}

}  // namespace

/// Keeps q of every row.
class AdaScale::Shifts {
 public:
  Shifts() = default;
  explicit Shifts(const AdaScale* detector) : detector_(detector) {}

  Inputs inputs() const { return {.features = true, .copy_features = true}; }

  void add(const Batch& batch) {
    const std::size_t before = values_.size();
    values_.resize(before + static_cast<std::size_t>(batch.rows()));
    detector_->shifts(batch, std::span(values_).subspan(before));
  }
  void merge(const Shifts& other) {
    values_.insert(values_.end(), other.values_.begin(), other.values_.end());
  }
  void visit(FieldVisitor& v) {
    VectorD all = Eigen::Map<const VectorD>(values_.data(), std::ssize(values_));
    v.state("values", all);
    values_.assign(all.begin(), all.end());
  }

  VectorD sorted() && {
    std::ranges::sort(values_);
    return Eigen::Map<const VectorD>(values_.data(), std::ssize(values_));
  }

 private:
  const AdaScale* detector_ = nullptr;
  std::vector<double> values_;
};

void AdaScale::visit(FieldVisitor& v) {
  const Range percent{.min = 0, .max = 100};
  const Range share{.min = 0, .max = 100, .open_min = true};
  v.option("variant", options_.variant, kVariantNames, "scales features (a) or logits (l)");
  v.option("k1", options_.k1, share, "percent of the entries whose perturbed values count");
  v.option("k2", options_.k2, share, "percent of the entries whose shifts count");
  v.option("shift_weight", options_.shift_weight, Range::at_least(0),
           "of the shifts; lambda in the paper");
  v.option("percentile_min", options_.percentile_min, percent.swept({60, 65, 70, 75, 80}),
           "of a row with the largest q");
  v.option("percentile_max", options_.percentile_max, percent.swept({80, 85, 90, 95, 99}),
           "of a row with the smallest q");
  v.option("copy", options_.copy, Range::at_least(0), "number of the perturbed copy, from 0");
  v.state("shifts", shifts_);
  head_.visit(v);
}

void AdaScale::fit_state(BatchSource& source, const Exec& exec) {
  if (options_.percentile_min > options_.percentile_max)
    throw_invalid("percentile_min has {}, expected at most percentile_max, {}",
                  options_.percentile_min, options_.percentile_max);
  if (options_.variant == Variant::a) head_.fit(*source.head());
  shifts_ = reduce(source, Shifts(this), exec).sorted();
}

void AdaScale::prepare() {
  if (shifts_.size() == 0) throw_invalid("shifts has 0 entries, expected 1 or more");
  if (options_.variant == Variant::a) head_.prepare(precision());
}

void AdaScale::shifts(const Batch& tile, std::span<double> out) const {
  const Tensor3View& copies = *tile.copy_features;
  const auto count = static_cast<Index>(copies.shape()[0]);
  if (options_.copy >= count)
    throw std::domain_error(
        fmt::format("copy has {}, expected below the number of copies, {}", options_.copy, count));
  const MatrixView& z = *tile.features;
  const MatrixView moved(copies.data() + options_.copy * copies.strides()[0], z.rows(), z.cols(),
                         copies.strides()[1]);
  row_shifts(z, moved, percent_of(z.cols(), options_.k1), percent_of(z.cols(), options_.k2),
             options_.shift_weight, out);
}

void AdaScale::score_tile(const Batch& tile, std::span<float> out) const {
  Scratch scratch;
  const MatrixView& z = *tile.features;
  MatrixMap shaped = scratch.matrix(z.rows(), z.cols());
  const std::span<double> q = scratch.span<double>(z.rows()), r = scratch.span<double>(z.rows());
  const std::span<Index> kept = scratch.span<Index>(z.rows());
  shifts(tile, q);
  kept_by_rank(q, {shifts_.data(), static_cast<std::size_t>(shifts_.size())},
               options_.percentile_min, options_.percentile_max, z.cols(), kept);
  non_negative_rows(tile, true, shaped);
  row_sum_ratios(shaped, kept, r);
  if (options_.variant == Variant::a) {
    const MatrixMap logits = scratch.matrix(z.rows(), head_.classes());
    scale_rows(z, r, shaped);
    head_.logits(shaped, logits);
    kernels::row_log_sum_exp(logits, 1.0f, out);
  } else {
    const std::span<float> factors = scratch.span<float>(z.rows()),
                           zeros = scratch.span<float>(tile.logits->cols());
    square(r, factors);
    kernels::fill(zeros, 0.0f);
    kernels::row_log_sum_exp_affine(*tile.logits, factors, zeros, out);
  }
}

}  // namespace ood
