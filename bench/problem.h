/// A made-up evaluation: clusters behind a ReLU, the head that tells them apart, layers, copies, outliers.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>
#include <xtensor/xadapt.hpp>

#include "ood/batch.h"
#include "ood/detector.h"
#include "random_rows.h"

namespace ood::bench {

class Problem {
 public:
  static constexpr Index kScoreRows = 4096, kCopies = 4;

  Problem(Index dim, Index classes, Index fit_rows) {
    const Matrix means = normal_rows(classes, dim, 1, 1);
    head_.weight = means.cwiseMax(0);
    head_.weight = (head_.weight.rowwise() - 0.9f * head_.weight.colwise().mean()).eval() *
                   (20.0f / static_cast<float>(dim));
    head_.bias = normal_rows(classes, 1, 2, 0.1f);
    for (Index i = 0; i < fit_rows; ++i) labels_.push_back(i % classes);
    fit_features_ = class_rows(means, fit_rows, 3);
    fit_ = batch_of(fit_features_, fit_logits_);
    fit_.labels = labels_;
    source_ = std::make_unique<MemorySource>(fit_, &head_);
    // Outliers: clusters of their own
    outlying_features_ = class_rows(normal_rows(classes, dim, 4, 1), kScoreRows, 5);
    outlying_ = batch_of(outlying_features_, outlying_logits_);
    outliers_ = std::make_unique<MemorySource>(outlying_, &head_);
    features_ = class_rows(means, kScoreRows, 6);
    for (Index i = 0; i < kScoreRows; ++i) scored_labels_.push_back(i % classes);
    scored_ = batch_of(features_, logits_);
    scored_.labels = scored_labels_;
    set_copies();
    id_val_ = std::make_unique<MemorySource>(scored_, &head_);
  }

  FitData fit_data() {
    return {.train = source_.get(), .id_val = id_val_.get(), .ood_val = {{"ood", outliers_.get()}}};
  }
  BatchSource& source() { return *source_; }
  const Head& head() const { return head_; }
  const Batch& scored() const { return scored_; }

  /// The problem of this shape, made when it is first asked for: 30 rows of each class, 10,000 or more.
  static Problem& of_shape(Index dim, Index classes) {
    static std::map<std::pair<Index, Index>, std::unique_ptr<Problem>> problems;
    auto& problem = problems[{dim, classes}];
    if (!problem)
      problem = std::make_unique<Problem>(dim, classes, std::max<Index>(10000, 30 * classes));
    return *problem;
  }

 private:
  /// Views on features, their logits, and two layers: the left half of the features, and all.
  Batch batch_of(const Matrix& features, Matrix& logits) {
    logits = (features * head_.weight.transpose()).rowwise() + head_.bias.transpose();
    const Index dim = features.cols();
    Batch batch;
    batch.features = features;
    batch.logits = logits;
    batch.layers = {{"early", MatrixView(features.data(), features.rows(), dim / 2, dim)},
                    {"late", features}};
    return batch;
  }

  /// Copies of what is scored, each with noise of its own.
  void set_copies() {
    const auto copy = [](const Matrix& x, Tensor3& copies) {
      const auto rows = static_cast<std::size_t>(x.rows()),
                 cols = static_cast<std::size_t>(x.cols());
      copies = Tensor3::from_shape({static_cast<std::size_t>(kCopies), rows, cols});
      for (Index k = 0; k < kCopies; ++k)
        Eigen::Map<Matrix>(copies.data() + k * x.size(), x.rows(), x.cols()) =
            x.cwiseProduct(normal_rows(1, x.cols(), 7 + static_cast<std::uint32_t>(k), 0.05f)
                               .replicate(x.rows(), 1)) +
            x;
    };
    copy(features_, copy_features_);
    copy(logits_, copy_logits_);
    scored_.copy_features = view_of(copy_features_);
    scored_.copy_logits = view_of(copy_logits_);
  }
  static Tensor3View view_of(const Tensor3& x) {
    const std::array<std::size_t, 3> shape = {x.shape(0), x.shape(1), x.shape(2)};
    const std::array<std::ptrdiff_t, 3> strides = {x.strides()[0], x.strides()[1], x.strides()[2]};
    return xt::adapt(x.data(), x.size(), xt::no_ownership(), shape, strides);
  }

  Head head_;
  std::vector<std::int64_t> labels_, scored_labels_;
  Matrix fit_features_, fit_logits_, outlying_features_, outlying_logits_, features_, logits_;
  Tensor3 copy_features_, copy_logits_;
  Batch fit_, outlying_, scored_;
  std::unique_ptr<MemorySource> source_, id_val_, outliers_;
};

}  // namespace ood::bench
