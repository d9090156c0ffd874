/// Scores of single detectors, from a row and what the network predicts for it, in float64.
#pragma once

#include "kernels/bodies/body.h"

namespace ood::kernels::bodies {

struct SubtractMean {
  FloatRows x;
  const double* mean;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) {
      to[j] = static_cast<float>(static_cast<double>(from[j]) - mean[j]);
    });
  }
};

struct Standardize {
  FloatRows x;
  const float *mean, *scale;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const from = x.row(i);
    float* const to = out.row(i);
    lanes.each(x.cols, [&](Index j) { to[j] = (from[j] - mean[j]) * scale[j]; });
  }
};

struct Exponentiate {
  float* x;
  OOD_BODY void operator()(Index i) const {
    x[i] = static_cast<float>(std::exp(static_cast<double>(x[i])));
  }
};

struct Invert {
  float* x;
  OOD_BODY void operator()(Index i) const { x[i] = 1.0f / std::fabs(x[i]); }
};

struct RowAffine {
  FloatRows x;
  const double* weight;
  double intercept;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const double dot = lanes.template sum<double>(
        x.cols, [&](Index j) { return static_cast<double>(row[j]) * weight[j]; });
    // an infinite entry may meet a weight of the other sign, or of 0
    const float poison = lanes.poison(row, x.cols);
    lanes.once([&] { out[i] = static_cast<float>(dot + intercept) + poison; });
  }
};

struct RowMeanMargin {
  FloatRows logits;
  const Index* predicted;
  FloatRows distances;
  const float* lengths;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const f = logits.row(i);
    const Index y = predicted[i];
    const double length = static_cast<double>(lengths[i]);
    double score = static_cast<double>(kNaN);
    if (y >= 0 && is_finite(length)) {
      const float* const distance = distances.row(y);
      const double top = static_cast<double>(f[y]);
      const double sum = lanes.template sum<double>(logits.cols, [&](Index c) {  // that of y is 0
        return (top - static_cast<double>(f[c])) / static_cast<double>(distance[c]);
      });
      score = sum == 0 ? 0 : sum / static_cast<double>(logits.cols - 1) / length;
    }
    lanes.once([&] { out[i] = static_cast<float>(score); });
  }
};

struct RowWidestAngle {
  FloatRows x;
  const double* center;
  FloatRows logits;
  const double* center_logits;
  const Index* predicted;
  FloatRows distances;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float *const z = x.row(i), *const f = logits.row(i);
    const Index y = predicted[i];
    const double r2 = lanes.template sum<double>(x.cols, [&](Index j) {
      const double r = static_cast<double>(z[j]) - center[j];
      return r * r;
    });
    double angle = static_cast<double>(kNaN);
    if (y >= 0 && is_finite(r2)) {
      const float* const distance = distances.row(y);
      const double top = static_cast<double>(f[y]), center_top = center_logits[y];
      // Of the angle of a point, what grows from 0 to 2 with it: exact near 0, and without its arc tangent
      const double widest = lanes.max(logits.cols, 0.0, [&](Index c) {
        const double length = static_cast<double>(distance[c]), q = length * length;
        const double a = top - static_cast<double>(f[c]);
        const double h = a - (center_top - center_logits[c]);
        // the point, times q; that of y is (r2, 0)
        const double along = r2 * q - a * h, across = a * std::sqrt(larger(r2 * q - h * h, 0.0));
        const double size = std::fabs(along) + across;  // 0: no angle, and 0 / 0 does not count
        return (along < 0 ? size - along : across) / size;
      });
      angle = std::atan2(widest < 1 ? widest : 2 - widest, 1 - widest);
    }
    constexpr double kPi = 3.14159265358979323846;
    lanes.once([&] { out[i] = static_cast<float>(angle / kPi); });
  }
};

struct RowRelativeError {
  FloatRows x, means, weight;
  const Index* predicted;
  const float* confidence;
  double mean_confidence;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const z = x.row(i);
    const Index y = predicted[i];
    double score = static_cast<double>(kNaN);
    const double length = lanes.template sum<double>(
        x.cols, [&](Index j) { return static_cast<double>(std::fabs(z[j])); });
    if (y >= 0 && is_finite(length)) {
      const float *const mean = means.row(y), *const w = weight.row(y);
      // of feature j, how far it raises the logit, times -1 for what lowers it
      const auto raised = [&](Index j) {
        const double off = static_cast<double>(z[j]) - static_cast<double>(mean[j]);
        return w[j] > 0 ? off : w[j] < 0 ? -off : 0.0;
      };
      const double up =
          lanes.template sum<double>(x.cols, [&](Index j) { return larger(raised(j), 0.0); });
      const double down =
          lanes.template sum<double>(x.cols, [&](Index j) { return larger(-raised(j), 0.0); });
      const double certain = larger(static_cast<double>(confidence[i]), 0.0);
      const double error = (up == 0 ? 0 : up / certain) + down / mean_confidence;
      score = error == 0 ? 0 : -error / length;
    }
    lanes.once([&] { out[i] = static_cast<float>(score); });
  }
};

struct RowRegret {
  FloatRows logits;
  const float* lengths;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const f = logits.row(i);
    const float top = lanes.max(logits.cols, -kInfinity, [&](Index c) { return f[c]; });
    const Index likeliest = lanes.first(logits.cols, [&](Index c) { return f[c] == top; });
    const auto gap = [&](Index c) { return static_cast<double>(f[c]) - static_cast<double>(top); };
    // sum over all but the likeliest of exp(f_c - f_top)
    const double others = lanes.template sum<double>(
        logits.cols, [&](Index c) { return c == likeliest ? 0.0 : std::exp(gap(c)); });
    const double log_sum = std::log1p(others), rest_of_likeliest = others / (1 + others);
    const double length = static_cast<double>(lengths[i]), g = length * length;
    const double kappa = g / (1 + g);
    const double sum = lanes.template sum<double>(logits.cols, [&](Index c) {
      const double log_p = gap(c) - log_sum;
      const double rest = c == likeliest ? rest_of_likeliest : -std::expm1(log_p);  // 1 - p_c
      // over p_c: rest p_c^(kappa - 1) may be infinite, and the term is 0 then
      return -rest * std::expm1(kappa * log_p) / (1 + rest * std::exp((kappa - 1) * log_p));
    });
    lanes.once([&] { out[i] = static_cast<float>(-std::log1p(sum)); });
  }
};

struct RowExcessProbabilities {
  FloatRows x;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const f = x.row(i);
    float* const to = out.row(i);
    const double top =
        static_cast<double>(lanes.max(x.cols, -kInfinity, [&](Index c) { return f[c]; }));
    const double sum = lanes.template sum<double>(x.cols, [&](Index c) {
      const auto logit = static_cast<double>(f[c]);
      return std::exp(logit - top) + 0 * logit;  // NaN and infinity show
    });
    const double uniform = 1 / static_cast<double>(x.cols);
    lanes.each(x.cols, [&](Index c) {
      to[c] = static_cast<float>(std::exp(static_cast<double>(f[c]) - top) / sum - uniform);
    });
  }
};

struct ScaleBy {
  FloatRowsOut x;
  float factor;
  FloatRows z;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    float* const to = x.row(i);
    const float* const by = z.row(i);
    lanes.each(x.cols, [&](Index j) { to[j] *= factor * by[j]; });
  }
};

struct RowBinnedShare {
  FloatRows x;
  const float* edges;
  FloatRows table;
  double total;
  float* out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = x.row(i);
    const double sum = lanes.template sum<double>(x.cols, [&](Index j) {
      Index begin = 0, end = table.cols - 1;  // of the first edge that is above
      while (begin < end) {
        const Index middle = begin + (end - begin) / 2;
        if (row[j] < edges[middle])
          end = middle;
        else
          begin = middle + 1;
      }
      return static_cast<double>(table.row(j)[begin]);
    });
    const float poison = lanes.poison(row, x.cols);
    lanes.once([&] { out[i] = static_cast<float>(sum / total) + poison; });
  }
};

struct RowLogSoftmax {
  FloatRows x;
  RowsOf<double> log_p, p;
  FloatRowsOut rounded;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const f = x.row(i);
    double *const log_to = log_p.row(i), *const to = p.row(i);
    const float top = lanes.max(x.cols, -kInfinity, [&](Index c) { return f[c]; });
    const Index likeliest = lanes.first(x.cols, [&](Index c) { return f[c] == top; });
    const double poison = static_cast<double>(lanes.poison(f, x.cols));
    lanes.each(x.cols, [&](Index c) {
      log_to[c] = static_cast<double>(f[c]) - static_cast<double>(top);
      to[c] = std::exp(log_to[c]);
    });
    const double others =
        lanes.template sum<double>(x.cols, [&](Index c) { return c == likeliest ? 0.0 : to[c]; });
    const double log_sum = std::log1p(others), sum = 1 + others + poison;
    float* const near = rounded.row(i);
    lanes.each(x.cols, [&](Index c) {
      log_to[c] -= log_sum;
      to[c] /= sum;
      near[c] = static_cast<float>(to[c]);
    });
  }
};

struct RowLeastDivergence {
  RowsOf<double> log_p, p;
  FloatRows dots;
  double slack;
  const Index *present, *predicted;
  RowsOf<const double> templates;
  float* out;

  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    if (predicted[i] < 0) {
      lanes.once([&] { out[i] = kNaN; });
      return;
    }
    double least = 0;
    if (dots.cols == 0) {
      least = divergence(i, predicted[i], lanes);
    } else {
      const float* const row = dots.row(i);
      const double best =
          static_cast<double>(lanes.max(dots.cols, -kInfinity, [&](Index t) { return row[t]; }));
      least = static_cast<double>(kInfinity);
      for (Index t = 0; t < dots.cols; ++t) {
        if (static_cast<double>(row[t]) < best - slack) continue;  // not where float32 overflowed
        least = smaller(divergence(i, present[t], lanes), least);
      }
    }
    lanes.once([&] { out[i] = static_cast<float>(0.0 - larger(least, 0.0)); });
  }

 private:
  template <class Lanes>
  OOD_BODY double divergence(Index i, Index c, const Lanes& lanes) const {
    const double *const log_row = log_p.row(i), *const row = p.row(i), *const t = templates.row(c);
    return lanes.template sum<double>(p.cols,
                                      [&](Index j) { return row[j] * (log_row[j] - t[j]); });
  }
};

struct RowRevisedLogits {
  FloatRows x;
  Index top;
  RowsOf<const double> means;
  const double *smallest, *shape, *log_scale;
  FloatRowsOut revised;
  double* unknown;

  /// An entry and where it is; the greater value first, then the lower place.
  struct Place {
    float value;
    Index at;
    OOD_BODY bool before(const Place& other) const {
      return value > other.value || (value == other.value && at < other.at);
    }
  };

  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const f = x.row(i);
    float* const to = revised.row(i);
    lanes.each(x.cols, [&](Index c) { to[c] = f[c]; });
    double moved = static_cast<double>(lanes.poison(f, x.cols));
    Place last{kInfinity, -1};
    for (Index k = 0; k < top && moved == moved; ++k) {
      last = lanes.reduce(
          x.cols, Place{-kInfinity, x.cols},
          [&](Place& own, Index c) {
            const Place here{f[c], c};
            if (last.before(here) && here.before(own)) own = here;
          },
          [](Place& own, const Place& other) {
            if (other.before(own)) own = other;
          });
      const Index c = last.at;
      const double* const mean = means.row(c);
      const double square = lanes.template sum<double>(x.cols, [&](Index j) {
        const double off = static_cast<double>(f[j]) - mean[j];
        return off * off;
      });
      const double weight =
          static_cast<double>(top - k) / static_cast<double>(top) * tail(c, std::sqrt(square));
      const auto logit = static_cast<double>(last.value);
      lanes.once([&] { to[c] = static_cast<float>(logit * (1 - weight)); });
      moved += logit * weight;
    }
    lanes.once([&] { unknown[i] = moved; });
  }

 private:
  OOD_BODY double tail(Index c, double distance) const {  // as ood/weibull_tail.h has it
    const double beyond = (distance - smallest[c]) / 10'000.0;
    if (beyond <= -1) return 0;
    return -std::expm1(-std::exp(shape[c] * (std::log1p(beyond) - log_scale[c])));
  }
};

struct SubtractSums {
  float* out;
  const double* less;
  OOD_BODY void operator()(Index i) const {
    out[i] = static_cast<float>(static_cast<double>(out[i]) - less[i]);
  }
};

}  // namespace ood::kernels::bodies

#define OOD_MARGIN_BODIES(X) \
  X(SubtractMean)            \
  X(Standardize)             \
  X(Exponentiate)            \
  X(Invert)                  \
  X(RowAffine)               \
  X(RowMeanMargin)           \
  X(RowWidestAngle)          \
  X(RowRelativeError)        \
  X(RowRegret)               \
  X(RowExcessProbabilities)  \
  X(ScaleBy)                 \
  X(RowBinnedShare)          \
  X(RowLogSoftmax)           \
  X(RowLeastDivergence)      \
  X(RowRevisedLogits)        \
  X(SubtractSums)
