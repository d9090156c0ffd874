#include "ood/detectors/openmax.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "ood/accumulators/class_means.h"
#include "ood/accumulators/classified_logits.h"
#include "ood/accumulators/largest_distances.h"
#include "ood/reduce.h"
#include "ood/scratch.h"

namespace ood {

void OpenMax::fit_state(BatchSource& source, const Exec& exec) {
  const Index classes = source.info().classes;
  const bool correct = options_.rows == Rows::correct;
  const ClassifiedLogits<ClassMeans> rows =
      reduce(source, ClassifiedLogits(ClassMeans(classes, classes), correct), exec);
  for (Index c = 0; c < classes; ++c)
    if (const Index count = rows.inner().counts()[static_cast<std::size_t>(c)];
        count < options_.tail)
      throw std::domain_error(fmt::format("class {} has {} rows{}, expected tail = {} or more", c,
                                          count, correct ? " that are predicted as it" : "",
                                          options_.tail));
  means_ = rows.inner().means();
  const ClassifiedLogits<LargestDistances> distances =
      reduce(source, ClassifiedLogits(LargestDistances(means_, options_.tail), correct), exec);
  smallest_.resize(classes);
  shapes_.resize(classes);
  log_scales_.resize(classes);
  for (Index c = 0; c < classes; ++c) {
    WeibullTail tail;
    try {
      tail = WeibullTail::fit(distances.inner().of_class(c));
    } catch (const std::domain_error& error) {
      throw std::domain_error(fmt::format("class {}: {}", c, error.what()));
    }
    smallest_[c] = tail.smallest;
    shapes_[c] = tail.shape;
    log_scales_[c] = tail.log_scale;
  }
}

void OpenMax::prepare() {
  require_size("means, in rows", means_.rows(), fitted_classes());
  require_size("means, in columns", means_.cols(), fitted_classes());
  for (const VectorD* state : {&smallest_, &shapes_, &log_scales_})
    require_size("the tails", state->size(), fitted_classes());
}

void OpenMax::score_tile(const Batch& tile, std::span<float> out) const {
  Scratch scratch;
  RowVectorDMap f(scratch.vector_d(tile.logits->cols()).data(), tile.logits->cols());
  for (std::size_t i = 0; i < out.size(); ++i) {
    f = tile.logits->row(static_cast<Index>(i)).cast<double>();
    out[i] =
        f.allFinite() ? static_cast<float>(score_row(f)) : std::numeric_limits<float>::quiet_NaN();
  }
}

double OpenMax::score_row(const RowVectorDMap& f) const {
  Scratch scratch;
  std::pmr::vector<Index> ranked(static_cast<std::size_t>(f.size()), &scratch);
  RowVectorDMap revised(scratch.vector_d(f.size()).data(), f.size());
  std::iota(ranked.begin(), ranked.end(), 0);
  const Index alpha = std::min(options_.alpha, f.size());
  std::ranges::partial_sort(ranked, ranked.begin() + alpha,
                            [&](Index a, Index b) { return f[a] != f[b] ? f[a] > f[b] : a < b; });
  revised = f;
  double unknown = 0;
  for (Index i = 0; i < alpha; ++i) {
    const Index c = ranked[static_cast<std::size_t>(i)];
    const double weight = static_cast<double>(alpha - i) / static_cast<double>(alpha) *
                          tail_of(c).cdf((f - means_.row(c)).norm());
    revised[c] = f[c] * (1 - weight);
    unknown += f[c] * weight;
  }
  const double largest = revised.maxCoeff();
  double sum = 0;
  for (Index c = 0; c < revised.size(); ++c) sum += std::exp(revised[c] - largest);
  return largest + std::log(sum) - unknown;
}

}  // namespace ood
