#pragma once

#include <algorithm>
#include <cmath>

#include "ood/detector.h"
#include "ood/kernels.h"
#include "ood/reduce.h"

namespace ood {

/// Maximum softmax probability at the temperature that calibrates it, as its log odds.
///
///   s(f) = log p / (1 - p), p = max_c softmax(f / T)_c        higher = more in-distribution
///   T    = argmin_T 1/n sum_i -log softmax(f_i / T)_{y_i}
///
/// needs  logits [n, C] and labels [n] of id_val in fit, logits in score
/// fit    the loss is convex in b = 1 / T: Newton's method on its derivative in float64, kept in a
///        bracket; a pass for each step, about 12. T is sought in [0.01, 100]; diagnostics warn
///        where it is at a bound, as it is for rows that are all classified correctly
/// score  logits [m, C] -> out [m]; unit: nats; infinite for C = 1
/// cost   fit O(n C) for each pass, score O(m C); state: one number
/// source Guo et al., ICML 2017, arXiv:1706.04599, as a score. There, in OpenOOD and in pytorch-ood T
///        comes from 50 steps of LBFGS, here it is the minimum itself. The score there is p: the same
///        order, but it ties where p rounds to 1, as it does for nearly all rows at a small T. Fitted on training rows, which the network has fitted too, T is too
///        low.
class TemperatureScaling final : public Detector {
 public:
  static constexpr std::string_view kName = "temperature_scaling";
  std::string_view name() const override { return kName; }
  Needs needs() const override {
    return {
        .fit = {.logits = true, .labels = true}, .score = {.logits = true}, .split = Split::id_val};
  }
  std::unique_ptr<Detector> clone() const override {
    return std::make_unique<TemperatureScaling>(*this);
  }

  double temperature() const { return temperature_; }

  void visit(FieldVisitor& v) override {
    v.state("temperature", temperature_);
    v.state("loss", loss_);
    v.state("loss_at_1", loss_at_1_);
  }

 private:
  static constexpr double kLeast = 1e-2, kMost = 1e2;  // of 1 / T

  /// Sums over rows of h(b) = log sum_c exp(b f_c) - b f_y and of its derivatives: h' = E f - f_y,
  /// h'' = E (f - E f)^2 under softmax(b f).
  class Loss {
   public:
    Loss() = default;
    explicit Loss(double b) : b_(b) {}

    Inputs inputs() const { return {.logits = true, .labels = true}; }

    void add(const Batch& batch) {
      VectorD f, p;
      for (Index i = 0; i < batch.rows(); ++i) {
        f = batch.logits->row(i).cast<double>();
        f.array() -= f.maxCoeff();
        const double own = f[(*batch.labels)[static_cast<std::size_t>(i)]];
        p = (b_ * f.array()).exp();
        const double sum = p.sum(), mean = p.dot(f) / sum;
        value += std::log(sum) - b_ * own;
        slope += mean - own;
        curvature += p.dot((f.array() - mean).square().matrix()) / sum;
      }
      rows += batch.rows();
    }
    void merge(const Loss& other) {
      value += other.value;
      slope += other.slope;
      curvature += other.curvature;
      rows += other.rows;
    }
    void visit(FieldVisitor& v) {
      v.state("b", b_);
      v.state("value", value);
      v.state("slope", slope);
      v.state("curvature", curvature);
      v.state("rows", rows);
    }

    double value = 0, slope = 0, curvature = 0;
    Index rows = 0;

   private:
    double b_ = 1;
  };

  void fit_state(BatchSource& source, const Exec& exec) override {
    const auto loss_at = [&](double b) { return reduce(source, Loss(b), exec); };
    const auto mean = [](const Loss& loss) { return loss.value / static_cast<double>(loss.rows); };
    double b = kMost;
    if (loss_at(kMost).slope > 0) b = loss_at(kLeast).slope < 0 ? root(loss_at) : kLeast;
    temperature_ = 1 / b;
    loss_ = mean(loss_at(b));
    loss_at_1_ = mean(loss_at(1));
  }

  /// The b in (kLeast, kMost) at which the slope is 0: Newton's method, or a bisection (of log b)
  /// where that would leave the bracket or no longer halves its steps.
  template <class LossAt>
  static double root(const LossAt& loss_at) {
    double low = kLeast, high = kMost, b = 1, last_step = high;
    for (int step = 0; step < 100; ++step) {
      const Loss loss = loss_at(b);
      (loss.slope < 0 ? low : high) = b;
      const double newton = b - loss.slope / loss.curvature;
      const bool good = newton >= low && newton <= high && std::abs(newton - b) <= 0.5 * last_step;
      const double next = good ? newton : std::sqrt(low * high);
      last_step = std::abs(next - b);
      b = next;
      if (last_step <= 1e-10 * b) break;
    }
    return b;
  }

  void score_tile(const Batch& tile, std::span<float> out) const override {
    kernels::row_log_odds(*tile.logits, static_cast<float>(temperature_), out);
  }

  Diagnostics found() const override {
    Diagnostics found;
    found.values = {{"temperature", temperature_}, {"loss", loss_}, {"loss_at_1", loss_at_1_}};
    if (temperature_ <= 1 / kMost || temperature_ >= 1 / kLeast)
      found.warnings.emplace_back(
          "temperature is at a bound of [0.01, 100], beyond which the loss would fall further");
    return found;
  }

  double temperature_ = 1;
  double loss_ = 0, loss_at_1_ = 0;  // mean -log softmax(f / T)_y, at T and at 1
};

}  // namespace ood
