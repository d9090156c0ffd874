#include "ood/detectors/wdiscood.h"

#include <array>
#include <stdexcept>

#include "errors.h"
#include "ood/accumulators/class_moments.h"
#include "ood/kernels/elements.h"
#include "ood/nearest_mean.h"
#include "ood/reduce.h"
#include "ood/scratch.h"
#include "ood/spectrum.h"

namespace ood {

namespace {

std::span<const float> entries(const Vector& v) {
  return {v.data(), static_cast<std::size_t>(v.size())};
}

}  // namespace

void Wdiscood::fit_state(BatchSource& source, const Exec& exec) {
  const SourceInfo& info = source.info();
  const auto moments = reduce(source, ClassMoments(info.classes, info.dim), exec);
  const MatrixD& means = moments.means();
  const VectorD mean = moments.mean();
  const Whitening whitening = whiten(moments.within_covariance(), 0.0);
  rank_ = whitening.rank;
  condition_number_ = whitening.condition_number;

  // x up to a rotation, which moves no distance
  const MatrixD places = (means.rowwise() - mean.transpose()) * whitening.transform.transpose();
  const Spectrum between =
      spectrum_of(places.transpose() * places / static_cast<double>(info.classes));
  discriminants_ = options_.discriminants == 0 ? between.rank : options_.discriminants;
  if (between.rank == 0)
    throw std::domain_error("class means do not differ, expected two or more that do");
  if (discriminants_ > between.rank)
    throw std::domain_error(
        fmt::format("discriminants has {}, expected at most {}, the dimensions that the {} class "
                    "means span (D = {})",
                    discriminants_, between.rank, info.classes, info.dim));
  if (discriminants_ >= rank_)
    throw std::domain_error(fmt::format(
        "discriminants has {}, expected less than the rank {} of the features within the classes "
        "(D = {}): no residual is left",
        discriminants_, rank_, info.dim));

  // Rows are centred in float32: everything else is taken relative to the center as rounded
  const MatrixD transform = between.directions * whitening.transform;
  center_ = mean.cast<float>();
  const VectorD center = center_.cast<double>();
  transform_ = transform.cast<float>();
  class_places_ =
      ((means.rowwise() - center.transpose()) * transform.topRows(discriminants_).transpose())
          .cast<float>();
  residual_mean_ = (transform.bottomRows(rank_ - discriminants_) * (mean - center)).cast<float>();
  if (!transform_.allFinite() || !class_places_.allFinite())
    throw std::domain_error("features vary too little for float32, expected them to be scaled up");
}

void Wdiscood::prepare() {
  require_size("center", center_.size(), fitted_dim());
  if (discriminants_ < 1 || discriminants_ >= rank_ || transform_.rows() != rank_ ||
      transform_.cols() != center_.size() || class_places_.rows() < 1 ||
      class_places_.cols() != discriminants_ || residual_mean_.size() != rank_ - discriminants_)
    throw_invalid("shapes of center [{}], transform [{}, {}] and class_places [{}, {}] disagree",
                  center_.size(), transform_.rows(), transform_.cols(), class_places_.rows(),
                  class_places_.cols());
  packed_transform_ = kernels::PackedMatrix(transform_, precision());
  packed_places_ = kernels::PackedMatrix(class_places_, precision());
  negative_squares_.resize(static_cast<std::size_t>(class_places_.rows()));
  for (Index c = 0; c < class_places_.rows(); ++c)
    negative_squares_[static_cast<std::size_t>(c)] =
        static_cast<float>(-class_places_.row(c).cast<double>().squaredNorm());
}

void Wdiscood::score_tile(const Batch& tile, std::span<float> out) const {
  constexpr std::array<double, 1> kTwo = {2.0};
  Scratch scratch;
  const Index n = tile.rows();
  const MatrixMap centered = scratch.matrix(n, tile.features->cols());
  const MatrixMap y = scratch.matrix(n, rank_), h = scratch.matrix(n, rank_ - discriminants_);
  const MatrixMap dots = scratch.matrix(n, class_places_.rows()), residual = scratch.matrix(n, 1);
  const std::span<Index> nearest = scratch.span<Index>(n);
  const MatrixView g(y.data(), n, discriminants_, rank_);
  const MatrixView rest(y.data() + discriminants_, n, h.cols(), rank_);
  kernels::subtract_row(*tile.features, entries(center_), centered);
  kernels::matmul_nt(centered, packed_transform_, y);
  kernels::subtract_row(rest, entries(residual_mean_), h);
  kernels::matmul_nt(g, packed_places_, dots);
  kernels::row_argmax_affine(dots, 2.0f, negative_squares_, nearest);
  kernels::row_squared_distance_selected(g, class_places_, nearest, out);
  kernels::negate_root(out);
  kernels::row_norms(h, kTwo, residual);
  kernels::add_scaled(out, -options_.residual_weight, {residual.data(), out.size()}, out);
}

}  // namespace ood
