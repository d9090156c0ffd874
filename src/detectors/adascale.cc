#include "ood/detectors/adascale.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "errors.h"
#include "ood/activation_shaping.h"
#include "ood/kernels.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

namespace {

constexpr std::array<std::string_view, 2> kVariantNames = {"a", "l"};

Index percent_of(Index dim, double percent) {
  return std::max<Index>(1, static_cast<Index>(static_cast<double>(dim) * percent / 100));
}

std::span<const float> row_of(const MatrixView& x, Index i) {
  return {x.row_data(i), static_cast<std::size_t>(x.cols())};
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
  Scratch scratch;
  std::pmr::vector<Index> columns(&scratch);
  columns.reserve(static_cast<std::size_t>(tile.features->cols()));
  const Tensor3View& copies = *tile.copy_features;
  const auto count = static_cast<Index>(copies.shape()[0]);
  if (options_.copy >= count)
    throw std::domain_error(
        fmt::format("copy has {}, expected below the number of copies, {}", options_.copy, count));
  const MatrixView& z = *tile.features;
  const MatrixView moved(copies.data() + options_.copy * copies.strides()[0], z.rows(), z.cols(),
                         copies.strides()[1]);
  const Index k1 = percent_of(z.cols(), options_.k1), k2 = percent_of(z.cols(), options_.k2);
  for (Index i = 0; i < z.rows(); ++i) {
    double& q = out[static_cast<std::size_t>(i)];
    if (!z.row(i).allFinite() || !moved.row(i).allFinite()) {
      q = std::numeric_limits<double>::quiet_NaN();
      continue;
    }
    double level = 0, shift = 0;
    largest_entries(row_of(z, i), k1, columns);
    for (const Index j : columns) level += static_cast<double>(std::max(moved(i, j), 0.0f));
    largest_entries(row_of(z, i), k2, columns);
    for (const Index j : columns)
      shift += std::abs(static_cast<double>(z(i, j)) - static_cast<double>(moved(i, j)));
    q = level + options_.shift_weight * shift;
  }
}

void AdaScale::score_tile(const Batch& tile, std::span<float> out) const {
  Scratch scratch;
  const MatrixView& z = *tile.features;
  MatrixMap positive = scratch.matrix(z.rows(), z.cols()),
            shaped = scratch.matrix(z.rows(), z.cols());
  std::pmr::vector<double> q(out.size(), &scratch);
  std::pmr::vector<float> squares(out.size(), &scratch);
  shifts(tile, q);
  non_negative_rows(tile, true, positive);
  shaped = z;
  for (Index i = 0; i < z.rows(); ++i) {
    const double own = q[static_cast<std::size_t>(i)];
    double r = own;  // NaN makes the row NaN
    if (!std::isnan(own)) {
      const Index below = std::upper_bound(shifts_.begin(), shifts_.end(), own) - shifts_.begin();
      const double above =
          1 - static_cast<double>(below) / static_cast<double>(shifts_.size());  // 1 - F(q)
      const double percentile =
          options_.percentile_min + above * (options_.percentile_max - options_.percentile_min);
      r = sum_ratio(row_of(positive, i), kept_entries(z.cols(), percentile));
    }
    squares[static_cast<std::size_t>(i)] = static_cast<float>(r * r);
    shaped.row(i) = (shaped.row(i).cast<double>() * std::exp(r)).cast<float>();
  }
  if (options_.variant == Variant::a) {
    const MatrixMap logits = scratch.matrix(z.rows(), head_.classes());
    head_.logits(shaped, logits);
    kernels::row_log_sum_exp(logits, 1.0f, out);
  } else {
    const std::pmr::vector<float> zeros(static_cast<std::size_t>(tile.logits->cols()), 0.0f,
                                        &scratch);
    kernels::row_log_sum_exp_affine(*tile.logits, squares, zeros, out);
  }
}

}  // namespace ood
