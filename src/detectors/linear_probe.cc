#include "ood/detectors/linear_probe.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "errors.h"
#include "ood/accumulators/row_bank.h"
#include "ood/kernels/margins.h"
#include "ood/logistic_regression.h"
#include "ood/metrics.h"
#include "ood/reduce.h"

namespace ood {

namespace {

struct Probe {
  VectorD weight;
  double intercept = 0;
  bool converged = false;
};

/// Rows of both sides; a cross-validation takes some of them away.
struct Examples {
  Matrix id, outliers;

  /// The rows whose place modulo `folds` is `fold`, or all the others.
  Examples fold(Index folds, Index fold, bool inside) const {
    const auto part = [&](const Matrix& rows) {
      Matrix some(rows.rows(), rows.cols());
      Index count = 0;
      for (Index i = 0; i < rows.rows(); ++i)
        if ((i % folds == fold) == inside) some.row(count++) = rows.row(i);
      some.conservativeResize(count, rows.cols());
      return some;
    };
    return {part(id), part(outliers)};
  }
};

Probe fit_probe(const Examples& examples, double c) {
  const Index n = examples.id.rows(), m = examples.outliers.rows(), dim = examples.id.cols();
  MatrixD x(n + m, dim);
  x << examples.id.cast<double>(), examples.outliers.cast<double>();
  std::vector<std::int64_t> labels(static_cast<std::size_t>(n + m), 0);
  std::fill_n(labels.begin(), n, 1);
  std::vector<double> sample_weights(labels.size());
  VectorD shares(n + m);
  for (Index i = 0; i < n + m; ++i) {
    shares(i) = 0.5 / static_cast<double>(i < n ? n : m);
    sample_weights[static_cast<std::size_t>(i)] = shares(i) * static_cast<double>(n + m);
  }
  const VectorD mean = x.transpose() * shares;
  x.rowwise() -= mean.transpose();
  VectorD deviation = (x.array().square().matrix().transpose() * shares).cwiseSqrt();
  for (double& d : deviation)
    if (!(d > 0)) d = 1;
  x.array().rowwise() /= deviation.transpose().array();
  const LogisticRegression fitted = fit_logistic_regression(x, labels, sample_weights, {.c = c});
  Probe probe{.weight = fitted.weight.cwiseQuotient(deviation), .converged = fitted.converged};
  probe.intercept = fitted.intercept - probe.weight.dot(mean);
  return probe;
}

std::vector<double> log_odds(const Probe& probe, const Matrix& rows) {
  const VectorD scores = (rows.cast<double>() * probe.weight).array() + probe.intercept;
  return {scores.begin(), scores.end()};
}

double cross_validated_auroc(const Examples& examples, double c, Index folds) {
  folds = std::min({folds, examples.id.rows(), examples.outliers.rows()});
  if (folds < 2) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (Index fold = 0; fold < folds; ++fold) {
    const Probe probe = fit_probe(examples.fold(folds, fold, false), c);
    const Examples held_out = examples.fold(folds, fold, true);
    sum += auroc(log_odds(probe, held_out.id), log_odds(probe, held_out.outliers));
  }
  return sum / static_cast<double>(folds);
}

Matrix sample_rows(BatchSource& source, Index most, Index seed, const Exec& exec) {
  const SourceInfo& info = source.info();
  const double share =
      std::min(1.0, static_cast<double>(most) / static_cast<double>(std::max<Index>(info.rows, 1)));
  return reduce(source, RowBank(RowSample(info.rows, share, seed), info.dim), exec).take().features;
}

}  // namespace

void LinearProbe::fit_data(const FitData& data, const Exec& exec) {
  BatchSource& source = data.in_distribution(needs().split);
  const SourceInfo& info = source.info();
  check_source(info);
  Examples examples{.id = sample_rows(source, options_.rows, options_.seed, exec),
                    .outliers = Matrix(0, info.dim)};
  Index available = 0;
  for (const auto& set : data.ood_val) available += set.second->info().rows;
  if (available == 0)
    throw std::domain_error("validation outliers have 0 rows, expected a dozen or more");
  for (const auto& [name, outliers] : data.ood_val) {  // of each set its share
    const SourceInfo& from = outliers->info();
    if (from.dim != info.dim)
      throw_invalid("{} has features of {} columns, expected {}", from.name, from.dim, info.dim);
    const Index most =
        std::max<Index>(1, options_.rows * from.rows / std::max(available, options_.rows));
    const Matrix rows = sample_rows(*outliers, most, options_.seed, exec);
    examples.outliers.conservativeResize(examples.outliers.rows() + rows.rows(), info.dim);
    examples.outliers.bottomRows(rows.rows()) = rows;
  }
  id_rows_ = examples.id.rows();
  outlier_rows_ = examples.outliers.rows();
  const Probe probe = fit_probe(examples, options_.c);
  weight_ = probe.weight;
  intercept_ = probe.intercept;
  converged_ = probe.converged ? 1 : 0;
  cv_auroc_ = cross_validated_auroc(examples, options_.c, options_.folds);
  set_fitted(info);
}

void LinearProbe::prepare() {
  if (weight_.size() != fitted_dim())
    throw_invalid("weight has {} entries, expected {}", weight_.size(), fitted_dim());
}

void LinearProbe::score_tile(const Batch& tile, std::span<float> out) const {
  kernels::row_affine(*tile.features, weight_, intercept_, out);
}

Diagnostics LinearProbe::found() const {
  Diagnostics found;
  found.values = {{"cv_auroc", cv_auroc_}, {"id_rows", id_rows_}, {"outlier_rows", outlier_rows_}};
  if (std::isnan(cv_auroc_))
    found.warnings.emplace_back("fewer than 2 rows of a side: no cross-validation");
  if (converged_ == 0)
    found.warnings.emplace_back("the search for the weights ended before it converged");
  return found;
}

}  // namespace ood
