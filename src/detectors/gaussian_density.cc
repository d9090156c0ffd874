#include "ood/detectors/gaussian_density.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <stdexcept>

#include "errors.h"
#include "ood/accumulators/class_covariances.h"
#include "ood/accumulators/class_moments.h"
#include "ood/nearest_mean.h"
#include "ood/reduce.h"

namespace ood {

namespace {

/// What the covariances of one pass may take, over all threads.
constexpr double kPassBytes = 1 << 30;

Index classes_in_one_pass(const SourceInfo& info, const Exec& exec) {
  const double one = 8.0 * static_cast<double>(info.dim) * static_cast<double>(info.dim);
  const double copies = thread_count(exec) + 1;
  return std::clamp(static_cast<Index>(kPassBytes / (one * copies)), Index{1}, info.classes);
}

}  // namespace

void GaussianDensity::fit_state(BatchSource& source, const Exec& exec) {
  const SourceInfo& info = source.info();
  const Index covariances = tied() ? 1 : info.classes;
  class_rows_.assign(static_cast<std::size_t>(info.classes), 0);
  log_determinants_.resize(covariances);
  condition_numbers_.resize(covariances);
  centers_.resize(covariances, info.dim);
  tied() ? fit_tied(source, exec) : fit_per_class(source, exec);
  if (!transforms_.allFinite() || !means_.allFinite())
    throw std::domain_error("features vary too little for float32, expected them to be scaled up");
}

void GaussianDensity::fit_tied(BatchSource& source, const Exec& exec) {
  const SourceInfo& info = source.info();
  const auto moments = reduce(source, ClassMoments(info.classes, info.dim), exec);
  for (Index c = 0; c < info.classes; ++c)
    class_rows_[static_cast<std::size_t>(c)] = moments.count(c);
  const MatrixD& means = moments.means();
  const Whitening whitening = whiten(moments.within_covariance(), options_.ridge);
  rank_ = whitening.rank;
  transforms_.resize(rank_, info.dim);
  means_.resize(info.classes, rank_);
  set_covariance(0, whitening, moments.mean(), means);
}

void GaussianDensity::fit_per_class(BatchSource& source, const Exec& exec) {
  const SourceInfo& info = source.info();
  rank_ = info.dim;
  transforms_.resize(info.classes * info.dim, info.dim);
  means_.resize(info.classes, info.dim);
  const Index together = classes_in_one_pass(info, exec);
  for (Index first = 0; first < info.classes; first += together) {
    const Index count = std::min(together, info.classes - first);
    const auto covariances = reduce(source, ClassCovariances(first, count, info.dim), exec);
    for (Index c = first; c < first + count; ++c) {
      const RowMoments& moments = covariances.of(c - first);
      const auto n = static_cast<double>(moments.rows());
      const MatrixD covariance = n / std::max(n - 1, 1.0) * moments.covariance();
      Whitening whitening;
      if (covariance.trace() > 0) whitening = whiten(covariance, options_.ridge);
      if (whitening.rank < info.dim)
        throw std::domain_error(
            fmt::format("class {} has {} rows and a covariance of rank {}, expected rank D = {}: "
                        "more rows, a larger ridge, or covariance = tied",
                        c, moments.rows(), whitening.rank, info.dim));
      class_rows_[static_cast<std::size_t>(c)] = moments.rows();
      set_covariance(c, whitening, moments.mean(), moments.mean().transpose());
    }
  }
}

void GaussianDensity::set_covariance(Index c, const Whitening& whitening, const VectorD& center,
                                     const MatrixD& means) {
  log_determinants_[c] = whitening.log_determinant;
  condition_numbers_[c] = whitening.condition_number;
  // Rows are centred in float32: take the means relative to the center as rounded, not as it was
  centers_.row(c) = center.transpose().cast<float>();
  transforms_.middleRows(c * rank_, rank_) = whitening.transform.cast<float>();
  const MatrixD centered = means.rowwise() - centers_.row(c).cast<double>();
  means_.middleRows(c, means.rows()) = (centered * whitening.transform.transpose()).cast<float>();
}

void GaussianDensity::prepare() {
  require_size("centers, in columns", centers_.cols(), fitted_dim());
  const Index covariances = tied() ? 1 : classes();
  if (rank_ < 1 || classes() < 1 || std::ranges::min(class_rows_) < 1 ||
      log_determinants_.size() != covariances || condition_numbers_.size() != covariances ||
      centers_.rows() != covariances || transforms_.rows() / rank_ != covariances ||
      transforms_.rows() % rank_ != 0 || transforms_.cols() != centers_.cols() ||
      means_.rows() != classes() || means_.cols() != rank_)
    throw_invalid("shapes of centers [{}, {}], transforms [{}, {}] and means [{}, {}] disagree",
                  centers_.rows(), centers_.cols(), transforms_.rows(), transforms_.cols(),
                  means_.rows(), means_.cols());
  packed_transforms_.clear();
  for (Index c = 0; c < covariances; ++c)
    packed_transforms_.emplace_back(MatrixView(transforms_).middle_rows(c * rank_, rank_),
                                    precision());
  packed_means_ = tied() ? kernels::PackedMatrix(means_, precision()) : kernels::PackedMatrix();

  const auto rows = static_cast<double>(std::reduce(class_rows_.begin(), class_rows_.end()));
  constants_.resize(class_rows_.size());
  offsets_.resize(class_rows_.size());
  for (Index c = 0; c < classes(); ++c) {
    const auto place = static_cast<std::size_t>(c);
    const double prior = options_.class_prior == ClassPrior::empirical
                             ? static_cast<double>(class_rows_[place]) / rows
                             : 1 / static_cast<double>(classes());
    const double volume = log_determinants_[tied() ? 0 : c] +
                          static_cast<double>(rank_) * std::log(2 * std::numbers::pi);
    const double constant = std::log(prior) - volume / 2;
    constants_[place] = static_cast<float>(constant);
    offsets_[place] = static_cast<float>(
        tied() ? std::log(prior) - means_.row(c).cast<double>().squaredNorm() / 2 : constant);
  }
}

Diagnostics GaussianDensity::found() const {
  Diagnostics all;
  std::vector<double> rows(class_rows_.begin(), class_rows_.end());
  all.values = {{"rank", rank_}};
  all.per_class = {{"rows", std::move(rows)}};
  if (tied()) {
    all.values.emplace_back("log_determinant", log_determinants_[0]);
    all.values.emplace_back("condition_number", condition_numbers_[0]);
  } else {
    const auto column = [](const VectorD& v) { return std::vector<double>(v.begin(), v.end()); };
    all.per_class.push_back({"log_determinant", column(log_determinants_)});
    all.per_class.push_back({"condition_number", column(condition_numbers_)});
  }
  return all;
}

}  // namespace ood
