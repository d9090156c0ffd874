#include "ood/detectors/openmax.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "ood/accumulators/class_means.h"
#include "ood/accumulators/classified_logits.h"
#include "ood/accumulators/largest_distances.h"
#include "ood/kernels.h"
#include "ood/kernels/margins.h"
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
  Scratch scratch;
  const MatrixMap revised = scratch.matrix(f.rows(), f.cols());
  const std::span<double> unknown = scratch.span<double>(f.rows());
  kernels::row_revised_logits(f, std::min(options_.alpha, f.cols()), means_,
                              {smallest_, shapes_, log_scales_}, revised, unknown);
  kernels::row_log_sum_exp(revised, 1.0f, out);
  kernels::subtract_sums(out, unknown);
}

}  // namespace ood
