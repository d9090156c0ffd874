#include "ood/detectors/openmax.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "ood/accumulators/class_means.h"
#include "ood/accumulators/classified_logits.h"
#include "ood/accumulators/largest_distances.h"
#include "ood/kernels.h"
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
  const MatrixView& f = *tile.logits;
  const Index alpha = std::min(options_.alpha, f.cols());
  Scratch scratch;
  std::pmr::vector<float> least(out.size(), &scratch);  // of the alpha largest logits
  std::pmr::vector<double> unknown(out.size(), &scratch);
  std::pmr::vector<Index> ranked(&scratch);
  ranked.reserve(static_cast<std::size_t>(f.cols()));
  MatrixMap revised = scratch.matrix(f.rows(), f.cols());
  VectorDMap row = scratch.vector_d(f.cols());
  kernels::row_kth_largest(f, alpha, least);
  revised = f;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const float* logits = f.row_data(static_cast<Index>(i));
    ranked.clear();
    for (Index c = 0; c < f.cols(); ++c)
      if (logits[c] >= least[i]) ranked.push_back(c);  // none where that is NaN
    std::ranges::sort(ranked, [&](Index a, Index b) {
      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    });
    row = f.row(static_cast<Index>(i)).transpose().cast<double>();
    for (Index k = 0; k < std::min(alpha, std::ssize(ranked)); ++k) {
      const Index c = ranked[static_cast<std::size_t>(k)];
      const double weight = static_cast<double>(alpha - k) / static_cast<double>(alpha) *
                            tail_of(c).cdf((row - means_.row(c).transpose()).norm());
      revised(static_cast<Index>(i), c) = static_cast<float>(row[c] * (1 - weight));
      unknown[i] += row[c] * weight;
    }
  }
  kernels::row_log_sum_exp(revised, 1.0f, out);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(static_cast<double>(out[i]) - unknown[i]);
}

}  // namespace ood
