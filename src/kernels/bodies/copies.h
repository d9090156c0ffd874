/// Copies of an output.
#pragma once

#include "kernels/bodies/body.h"
#include "ood/copies.h"

namespace ood::kernels::bodies {

/// [K, n, D] as bodies take it.
struct CopiesOf {
  const float* data;
  Index copy_stride, row_stride, copies, rows, cols;
  OOD_BODY const float* row(Index k, Index i) const {
    return data + k * copy_stride + i * row_stride;
  }
};

/// 0 if row i of all copies is finite, else NaN.
template <class Lanes>
OOD_BODY float poison(const CopiesOf& x, Index i, const Lanes& lanes) {
  float all = 0;
  for (Index k = 0; k < x.copies; ++k) all += lanes.poison(x.row(k, i), x.cols);
  return all;
}

struct MeanOfCopies {
  CopiesOf x;
  FloatRowsOut out;
  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    float* const to = out.row(i);
    // a few columns together, in registers
    constexpr Index kTogether = 4;
    lanes.each((x.cols + kTogether - 1) / kTogether, [&](Index block) {
      const Index begin = block * kTogether, width = smaller(kTogether, x.cols - begin);
      double sum[kTogether] = {};
      if (width == kTogether)
        for (Index k = 0; k < x.copies; ++k)
          for (Index j = 0; j < kTogether; ++j)
            sum[j] += static_cast<double>(x.row(k, i)[begin + j]);
      else
        for (Index k = 0; k < x.copies; ++k)
          for (Index j = 0; j < width; ++j) sum[j] += static_cast<double>(x.row(k, i)[begin + j]);
      for (Index j = 0; j < width; ++j)
        to[begin + j] = static_cast<float>(sum[j] / static_cast<double>(x.copies));
    });
  }
};

/// p^k = softmax of copy k of one row, and their mean m = 1/K sum_k p^k, in float64. The largest
/// entry of m is known by what the others leave over, so that log m and p^k - m keep their relative
/// accuracy where p -> 1.
struct CopyProbabilities {
  Index copies, classes;
  const double* power;   ///< [K, C], exp(f - max f)
  const double* weight;  ///< [K], 1 / sum_c power
  const double* mean;    ///< [C]
  const double* rest;    ///< sum over c != top of p^k_c, [K]
  double mean_rest;      ///< and of m_c
  Index top;             ///< the first c at which m is largest

  /// What set() takes of memory.
  static OOD_BODY Index entries(Index copies, Index classes) {
    return copies * classes + classes + 2 * copies;
  }

  /// Of row i, all of it finite.
  template <class Lanes>
  OOD_BODY void set(const CopiesOf& logits, Index i, double* memory, const Lanes& lanes) {
    copies = logits.copies;
    classes = logits.cols;
    double* const e = memory;
    double* const w = e + copies * classes;
    double* const r = w + copies;
    double* const m = r + copies;
    const auto count = static_cast<double>(copies);
    for (Index k = 0; k < copies; ++k) {
      const float* const f = logits.row(k, i);
      double* const to = e + k * classes;
      const auto largest =
          static_cast<double>(lanes.max(classes, -kInfinity, [&](Index c) { return f[c]; }));
      lanes.each(classes, [&](Index c) { to[c] = std::exp(static_cast<double>(f[c]) - largest); });
      struct Sum {
        double below, ones;
      };
      const Sum sum = lanes.reduce(
          classes, Sum{0, 0},
          [&](Sum& own, Index c) {
            own.below += to[c] < 1 ? to[c] : 0.0;
            own.ones += to[c] < 1 ? 0.0 : 1.0;
          },
          [](Sum& own, const Sum& other) {
            own.below += other.below;
            own.ones += other.ones;
          });
      lanes.once([&] {
        w[k] = 1 / (sum.below + sum.ones);
        r[k] = (sum.below + (sum.ones - 1)) * w[k];  // without the largest, so far
      });
    }
    lanes.each(classes, [&](Index c) {
      double sum = 0;
      for (Index k = 0; k < copies; ++k) sum += e[k * classes + c] * w[k];
      m[c] = sum / count;
    });
    const double largest = lanes.max(classes, -1.0, [&](Index c) { return m[c]; });
    const Index at = lanes.first(classes, [&](Index c) { return m[c] == largest; });
    lanes.each(copies, [&](Index k) {
      const double here = e[k * classes + at] * w[k];
      if (!(here > 0.5)) r[k] = 1 - here;  // else it is the largest of the copy
    });
    power = e;
    weight = w;
    mean = m;
    rest = r;
    top = at;
    mean_rest = lanes.template sum<double>(copies, [&](Index k) { return r[k]; }) / count;
  }

  /// log m_c; -infinity where m_c is 0.
  OOD_BODY double log_mean(Index c) const {
    return c == top && mean_rest < 0.5 ? std::log1p(-mean_rest) : std::log(mean[c]);
  }
  /// p^k_c - m_c.
  OOD_BODY double deviation(Index k, Index c) const {
    return c == top ? mean_rest - rest[k] : power[k * classes + c] * weight[k] - mean[c];
  }
};

struct ScoreProbabilities {
  CopiesOf logits;
  ProbabilityStatistic statistic;
  RowsOf<double> memory;
  float* out;

  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float poisoned = poison(logits, i, lanes);
    double score = 0;
    if (poisoned == 0) {
      CopyProbabilities p;
      p.set(logits, i, memory.row(i), lanes);
      score = score_of(p, lanes);
    }
    lanes.once([&] { out[i] = static_cast<float>(score) + poisoned; });
  }

 private:
  template <class Lanes>
  OOD_BODY double score_of(const CopyProbabilities& p, const Lanes& lanes) const {
    const auto copies = static_cast<double>(p.copies), classes = static_cast<double>(p.classes);
    switch (statistic) {
      case ProbabilityStatistic::log_largest_mean:
        return p.log_mean(p.top);
      case ProbabilityStatistic::negative_entropy_of_mean:
        return lanes.template sum<double>(
            p.classes, [&](Index c) { return p.mean[c] > 0 ? p.mean[c] * p.log_mean(c) : 0.0; });
      case ProbabilityStatistic::negative_mutual_information:
        return -lanes.template sum<double>(p.classes, [&](Index c) {
          double sum = 0;
          if (p.mean[c] > 0)
            for (Index k = 0; k < p.copies; ++k) sum += excess(p.deviation(k, c) / p.mean[c]);
          return p.mean[c] * sum;
        }) / copies;
      case ProbabilityStatistic::negative_variance:
        return -lanes.template sum<double>(p.classes, [&](Index c) {
          double sum = 0;
          for (Index k = 0; k < p.copies; ++k) sum += p.deviation(k, c) * p.deviation(k, c);
          return sum;
        }) / ((copies - 1) * classes);
    }
    return 0;
  }

  /// (1 + x) log(1 + x) - x >= 0 for x >= -1; near 0 by its series, where the difference cancels.
  static OOD_BODY double excess(double x) {
    if (x <= -1) return 1;
    if (std::fabs(x) > 0.01) return (1 + x) * std::log1p(x) - x;
    return x * x * (1.0 / 2 - x * (1.0 / 6 - x * (1.0 / 12 - x * (1.0 / 20 - x * (1.0 / 30)))));
  }
};

/// 1 - cos for each copy is half the squared distance of unit vectors, in float64, so that nothing
/// cancels where the cosine is near 1.
struct ScoreCosines {
  FloatRows z;
  CopiesOf copies;
  CosineStatistic statistic;
  RowsOf<double> memory;  ///< [K]
  float* out;

  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const float* const row = z.row(i);
    double* const distance = memory.row(i);
    const double norm = norm_of(row, lanes), unit = 1 / norm;
    for (Index k = 0; k < copies.copies; ++k) {
      const float* const copy = copies.row(k, i);
      const double copy_norm = norm_of(copy, lanes), copy_unit = 1 / copy_norm;
      const double squares = lanes.template sum<double>(z.cols, [&](Index j) {
        const double d =
            static_cast<double>(row[j]) * unit - static_cast<double>(copy[j]) * copy_unit;
        return d * d;
      });
      // where one is zero and the other is not finite, the product of the norms is NaN
      lanes.once([&] {
        distance[k] = norm == 0 || copy_norm == 0 ? 1 + norm * copy_norm : 0.5 * squares;
      });
    }
    const double score = score_of(distance, lanes);
    lanes.once([&] { out[i] = static_cast<float>(score); });
  }

 private:
  template <class Lanes>
  OOD_BODY double norm_of(const float* x, const Lanes& lanes) const {
    return std::sqrt(lanes.template sum<double>(
        z.cols, [&](Index j) { return static_cast<double>(x[j]) * static_cast<double>(x[j]); }));
  }
  /// NaN where a distance is.
  template <class Lanes>
  OOD_BODY double score_of(const double* distance, const Lanes& lanes) const {
    const Index n = copies.copies;
    const auto count = static_cast<double>(n);
    const double mean = lanes.template sum<double>(n, [&](Index k) { return distance[k]; }) / count;
    if (statistic == CosineStatistic::mean || mean != mean) return -mean;
    if (statistic == CosineStatistic::smallest)
      return -lanes.max(n, -1.0, [&](Index k) { return distance[k]; });
    return -lanes.template sum<double>(n, [&](Index k) {
      return (distance[k] - mean) * (distance[k] - mean);
    }) / (count - 1);
  }
};

/// Of score i: how many of the K predicted classes, [K, n], are the one that most of them are.
struct VariationRatio {
  const Index* predicted;
  Index copies, rows;
  float* out;
  OOD_BODY void operator()(Index i) const {
    Index most = 0;
    bool finite = true;
    for (Index k = 0; k < copies; ++k) {
      const Index own = predicted[k * rows + i];
      finite = finite && own >= 0;
      Index same = 0;
      for (Index l = 0; l < copies; ++l) same += predicted[l * rows + i] == own ? 1 : 0;
      most = larger(most, same);
    }
    out[i] = finite ? static_cast<float>(most) / static_cast<float>(copies) - 1 : kNaN;
  }
};

/// Of scores [K, n].
struct MeanOfScores {
  const float* x;
  Index copies, rows;
  float* out;
  OOD_BODY void operator()(Index i) const {
    double sum = 0;
    for (Index k = 0; k < copies; ++k) sum += static_cast<double>(x[k * rows + i]);
    out[i] = static_cast<float>(sum / static_cast<double>(copies));
  }
};

struct CrossMax {
  CopiesOf members;
  Index k;                ///< 0: the median
  RowsOf<double> memory;  ///< [K, C]
  FloatRowsOut out;

  template <class Lanes>
  OOD_BODY void operator()(Index i, const Lanes& lanes) const {
    const Index count = members.copies, classes = members.cols;
    float* const to = out.row(i);
    if (poison(members, i, lanes) != 0) {
      lanes.each(classes, [&](Index c) { to[c] = kNaN; });
      return;
    }
    double* const sorted = memory.row(i);  // by members, in each class
    for (Index m = 0; m < count; ++m) {
      const float* const f = members.row(m, i);
      double* const a = sorted + m * classes;
      const auto largest =
          static_cast<double>(lanes.max(classes, -kInfinity, [&](Index c) { return f[c]; }));
      lanes.each(classes, [&](Index c) { a[c] = static_cast<double>(f[c]) - largest; });
      for (Index at = m; at > 0; --at) {
        double *const low = sorted + at * classes, *const high = low - classes;
        lanes.each(classes, [&](Index c) {
          const double x = low[c], y = high[c];
          high[c] = larger(x, y);
          low[c] = smaller(x, y);
        });
      }
    }
    const Index upper = k > 0 ? k - 1 : (count - 1) / 2, lower = k > 0 ? k - 1 : count / 2;
    lanes.each(classes, [&](Index c) {
      const double y =
          0.5 * (sorted[upper * classes + c] + sorted[lower * classes + c]) - sorted[c];
      // a number of float32, so that the row stays finite
      to[c] = static_cast<float>(larger(y, static_cast<double>(kLowest)));
    });
  }
};

}  // namespace ood::kernels::bodies

#define OOD_COPY_BODIES(X) \
  X(MeanOfCopies)          \
  X(ScoreProbabilities)    \
  X(ScoreCosines)          \
  X(VariationRatio)        \
  X(MeanOfScores)          \
  X(CrossMax)
