#include "ood/detectors/optfs.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "errors.h"
#include "kernels/bodies/shaping.h"
#include "ood/activation_shaping.h"
#include "ood/kernels.h"
#include "ood/quantiles.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

/// Sums g_k n.
class OptFs::Contributions {
 public:
  Contributions() = default;
  Contributions(double left, double width, const Matrix* weight)
      : left_(left), width_(width), weight_(weight), sums_(VectorD::Zero(kBins)) {}

  Inputs inputs() const { return {.features = true, .logits = true}; }

  void add(const Batch& batch) {
    for (Index i = 0; i < batch.rows(); ++i) {
      const float* f = batch.logits->row_data(i);
      const Index predicted = std::max_element(f, f + batch.logits->cols()) - f;
      const float* z = batch.features->row_data(i);
      for (Index j = 0; j < batch.features->cols(); ++j)
        if (const Index k = kernels::bodies::bin_of(z[j], left_, width_, kBins); k >= 0)
          sums_[k] += static_cast<double>((*weight_)(predicted, j)) * static_cast<double>(z[j]);
    }
  }
  void merge(const Contributions& other) { sums_ += other.sums_; }
  void visit(FieldVisitor& v) { v.state("sums", sums_); }

  const VectorD& sums() const { return sums_; }

 private:
  double left_ = 0, width_ = 1;
  const Matrix* weight_ = nullptr;
  VectorD sums_;
};

void OptFs::fit_state(BatchSource& source, const Exec& exec) {
  head_.fit(*source.head());
  constexpr std::array<double, 2> kEnds = {0.1, 99.9};
  const MatrixD ends = feature_percentiles(source, kEnds, QuantileScope::all, exec);
  left_ = ends(0, 0);
  width_ = (ends(1, 0) - left_) / static_cast<double>(kBins);
  if (!(width_ > 0))
    throw std::domain_error(fmt::format(
        "features has {} at the quantiles of 0.001 and 0.999, expected two different ones", left_));
  const VectorD g = reduce(source, Contributions(left_, width_, &head_.weight()), exec).sums();
  const double norm = g.norm();
  if (!(norm > 0))
    throw std::domain_error(
        "the contribution of the features to the predicted logit is 0 in all bins, expected "
        "features and a head that are not 0");
  theta_ = g * (1000 / norm);  // the n of the means cancels
}

void OptFs::prepare() {
  if (theta_.size() != kBins || !(width_ > 0))
    throw_invalid("theta has {} bins of width {}, expected {} above 0", theta_.size(), width_,
                  kBins);
  head_.prepare(precision());
}

void OptFs::score_tile(const Batch& tile, std::span<float> out) const {
  Scratch scratch;
  const MatrixView& z = *tile.features;
  MatrixMap shaped = scratch.matrix(z.rows(), z.cols());
  const MatrixMap logits = scratch.matrix(z.rows(), head_.classes());
  weigh_by_bins(z, left_, width_, {theta_.data(), static_cast<std::size_t>(theta_.size())}, shaped);
  head_.logits(shaped, logits);
  kernels::row_log_sum_exp(logits, 1.0f, out);
}

}  // namespace ood
