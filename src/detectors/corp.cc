#include "ood/detectors/corp.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "errors.h"
#include "ood/accumulators/row_moments.h"
#include "ood/random.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

namespace {

constexpr std::uint32_t kDirectionStream = 0x430, kPhaseStream = 0x431;

}  // namespace

/// Moments of phi.
class Corp::MappedMoments {
 public:
  MappedMoments() = default;
  explicit MappedMoments(const Corp* corp) : moments_(corp->directions_.rows()), corp_(corp) {}

  Inputs inputs() const { return {.features = true}; }

  void add(const Batch& batch) {
    const MatrixView& z = *batch.features;
    Matrix all(z.rows(), corp_->directions_.rows());
    for (Index begin = 0; begin < z.rows(); begin += kernels::kTileRows) {
      const Index count = std::min(kernels::kTileRows, z.rows() - begin);
      corp_->map(z.middle_rows(begin, count), {all.row(begin).data(), count, all.cols()});
    }
    Batch mapped;
    mapped.features = all;
    moments_.add(mapped);
  }
  void merge(const MappedMoments& other) { moments_.merge(other.moments_); }
  void visit(FieldVisitor& v) { moments_.visit(v); }
  const RowMoments& moments() const { return moments_; }

 private:
  RowMoments moments_;
  const Corp* corp_ = nullptr;
};

void Corp::fit_state(BatchSource& source, const Exec& exec) {
  draw_features(source.info().dim, kernels::Precision::float32);
  const MappedMoments reduced = reduce(source, MappedMoments(this), exec);
  space_.fit(reduced.moments().covariance(), reduced.moments().mean(), options_.variance);
}

void Corp::prepare() {
  space_.prepare(options_.dimension, precision());
  draw_features(fitted_dim(), precision());
}

void Corp::draw_features(Index dim, kernels::Precision packed) {
  constexpr Index kMostWeights = Index{1} << 26;  // they are drawn, no file holds them
  if (options_.dimension > kMostWeights / std::max<Index>(dim, 1))
    throw_invalid("option dimension has {}, expected at most {} for features of width {}",
                  options_.dimension, kMostWeights / std::max<Index>(dim, 1), dim);
  const auto seed = static_cast<std::uint64_t>(options_.seed);
  const double scale = std::sqrt(2 * options_.gamma);
  Matrix directions(options_.dimension, dim);
  VectorD normals(dim);
  phases_.resize(static_cast<std::size_t>(options_.dimension));
  for (Index m = 0; m < options_.dimension; ++m) {
    const auto item = static_cast<std::uint64_t>(m);
    fill_normal(seed, kDirectionStream, item, {normals.data(), static_cast<std::size_t>(dim)});
    directions.row(m) = (scale * normals.transpose()).cast<float>();
    phases_[static_cast<std::size_t>(m)] =
        static_cast<float>(2 * std::numbers::pi * uniform(seed, kPhaseStream, item));
  }
  directions_ = kernels::PackedMatrix(directions, packed);
}

void Corp::map(const MatrixView& z, MatrixMap phi) const {
  Scratch scratch;
  const MatrixMap unit = scratch.matrix(z.rows(), z.cols());
  const MatrixMap dots = scratch.matrix(z.rows(), directions_.rows());
  kernels::normalize_rows(z, unit);
  kernels::matmul_nt(unit, directions_, dots);
  const double scale = std::sqrt(2.0 / static_cast<double>(options_.dimension));
  kernels::cosines(dots, phases_, static_cast<float>(scale), phi);
}

}  // namespace ood
