#include "ood/detectors/vra.h"

#include "errors.h"
#include "ood/activation_shaping.h"
#include "ood/scratch.h"

namespace ood {

namespace {

constexpr std::array<std::string_view, 2> kScopeNames = {"dimension", "all"};
constexpr std::array<std::string_view, 2> kBelowNames = {"zero", "clip"};

void require_order(const char* what, double low, double high) {
  if (low > high) throw_invalid("{} has {}, expected at most the upper one, {}", what, low, high);
}

}  // namespace

std::vector<Preset> Vra::presets() const {
  return {
      {"vra+", {{"low", 60.0}, {"high", 95.0}, {"lift", 0.6}}, "VRA+, as published for CIFAR"},
      {"imagenet-resnet50",
       {{"thresholds", std::vector<double>{0.5, 1.0}}},
       "as published for ImageNet: values of the features of ResNet-50, not percentiles"},
      {"openood",
       {{"low", 10.0}, {"high", 90.0}, {"scope", "all"}, {"below", "clip"}, {"split", "id_val"}},
       "as OpenOOD: clips to percentiles of all validation entries"},
      {"pytorch_ood",
       {{"low", 1.0}, {"high", 99.0}, {"below", "clip"}},
       "as pytorch-ood: clips to percentiles of each dimension"}};
}

void Vra::visit(FieldVisitor& v) {
  const Range percent{.min = 0, .max = 100};
  v.option("low", options_.low, percent.swept({1, 5, 10, 15, 50, 60}), "percentile: l");
  v.option("high", options_.high, percent.swept({85, 90, 95, 99}), "percentile: h");
  v.option("scope", options_.scope, kScopeNames,
           "percentiles of each dimension, or of all entries");
  v.option("below", options_.below, kBelowNames, "entries below l become 0, or l");
  v.option("lift", options_.lift, Range{}, "added to entries in [l, h]; 0.6 in VRA+ for CIFAR");
  v.option("split", options_.split, kFitSplits, "whose percentiles");
  v.option("thresholds", options_.thresholds, Range{},
           "l and h of all dimensions; none: from the percentiles");
  v.state("low_threshold", low_);
  v.state("high_threshold", high_);
  head_.visit(v);
}

void Vra::fit_state(BatchSource& source, const Exec& exec) {
  head_.fit(*source.head());
  const Index dim = head_.weight().cols();
  if (const auto& given = options_.thresholds; !given.empty()) {
    if (given.size() != 2)
      throw_invalid("thresholds has {} numbers, expected 2 or none", given.size());
    require_order("the lower of thresholds", given[0], given[1]);
    low_ = VectorD::Constant(dim, given[0]);
    high_ = VectorD::Constant(dim, given[1]);
    return;
  }
  require_order("low", options_.low, options_.high);
  const std::array<double, 2> percentiles = {options_.low, options_.high};
  const MatrixD found = feature_percentiles(source, percentiles, options_.scope, exec);
  const auto of_each = [&](Index p) -> VectorD {
    if (found.cols() == dim) return found.row(p).transpose();
    return VectorD::Constant(dim, found(p, 0));
  };
  low_ = of_each(0);
  high_ = of_each(1);
}

void Vra::prepare() {
  require_size("low_threshold", low_.size(), fitted_dim());
  if (low_.size() != head_.weight().cols() || high_.size() != low_.size())
    throw_invalid("shapes of low_threshold [{}], high_threshold [{}] and weight [{}, {}] disagree",
                  low_.size(), high_.size(), head_.weight().rows(), head_.weight().cols());
  head_.prepare(precision());
}

void Vra::score_tile(const Batch& tile, std::span<float> out) const {
  Scratch scratch;
  const MatrixView& z = *tile.features;
  MatrixMap shaped = scratch.matrix(z.rows(), z.cols());
  const MatrixMap logits = scratch.matrix(z.rows(), head_.classes());
  const auto of_each = [](const VectorD& a) {
    return std::span(a.data(), static_cast<std::size_t>(a.size()));
  };
  rectify_rows(z, of_each(low_), of_each(high_), options_.below == Below::clip, options_.lift,
               shaped);
  head_.logits(shaped, logits);
  kernels::row_log_sum_exp(logits, 1.0f, out);
}

}  // namespace ood
