#include "ood/intervals.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "errors.h"
#include "normal_quantile.h"
#include "ood/quantiles.h"
#include "ood/random.h"
#include "ranking.h"

namespace ood {

namespace {

constexpr std::int64_t kLeastScores = 2;  // of a kind: how far one alone may be off is not known
constexpr auto kAddToMean = "MeanAuroc.add";
constexpr std::uint64_t kWords = std::uint64_t{1} << 32;  // that random numbers tell apart
constexpr std::uint32_t kIdStream = 0x500, kOodStream = 0x501;

void require_level(const char* function, double level) {
  if (!(level > 0 && level < 1))
    throw_invalid("{}: level is {}, expected a share in (0, 1)", function, level);
}

/// For each score, twice the number of others that are lower, equal ones counting one.
VectorD twice_lower(Scores scores, Scores others) {
  const auto sorted = sorted_order_keys(others);
  VectorD twice(std::ssize(scores));
  std::ranges::transform(scores, twice.data(), [&](double score) {
    const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), order_key(score));
    return static_cast<double>((first - sorted.begin()) + (last - sorted.begin()));
  });
  return twice;
}

/// DeLong's u and v (see auroc_interval) as whole numbers: means and differences of two scores are
/// exact, and where they do not vary, the variance is 0.
struct Components {
  VectorD id;   ///< [n] 2 m u_i
  VectorD ood;  ///< [m] 2 n v_j

  double id_scale() const { return 2 * static_cast<double>(ood.size()); }
  double ood_scale() const { return 2 * static_cast<double>(id.size()); }
  double mean() const { return id.sum() / (id_scale() * static_cast<double>(id.size())); }
};

Components components(const char* function, const char* id_name, Scores id, const char* ood_name,
                      Scores ood) {
  require_scores(function, id_name, id, kLeastScores);
  require_scores(function, ood_name, ood, kLeastScores);
  return {twice_lower(id, ood), 2 * static_cast<double>(id.size()) - twice_lower(ood, id).array()};
}

double variance_of_mean(const VectorD& values, double scale) {
  const auto n = static_cast<double>(values.size());
  return (values.array() - values.mean()).square().sum() / (n * (n - 1) * scale * scale);
}

/// Of values that are there `counts` times.
double variance_of_mean(const VectorD& values, const VectorD& counts, double scale) {
  const double n = counts.sum(), mean = values.dot(counts) / n;
  return ((values.array() - mean).square() * counts.array()).sum() / (n * (n - 1) * scale * scale);
}

double variance_of_mean(const Components& of) {
  return variance_of_mean(of.id, of.id_scale()) + variance_of_mean(of.ood, of.ood_scale());
}

/// Clipped to [least, 1].
Interval normal_interval(double value, double variance, double level, double least) {
  const double half = normal_two_sided(level) * std::sqrt(variance);
  return {value, std::max(value - half, least), std::min(value + half, 1.)};
}

/// AUROC and the variance of either mean: of the u_i, which are of ID scores, and of the v_j.
struct DeLong {
  double auroc;
  double id_variance;
  double ood_variance;
};

/// Calls use(tie, 2 m u, 2 n v) for each value, the lowest first. As in Components, u and v are whole
/// numbers.
template <class Use>
void for_each_component(const Ranking& ranking, const Use& use) {
  std::int64_t id_lower = 0, ood_lower = 0;
  for (auto tie = ranking.ties.rbegin(); tie != ranking.ties.rend(); ++tie) {
    use(*tie, static_cast<double>(2 * ood_lower + tie->negatives),
        static_cast<double>(2 * (ranking.positives - id_lower) - tie->positives));
    id_lower += tie->positives;
    ood_lower += tie->negatives;
  }
}

DeLong delong(const Ranking& ranking) {
  const auto n = static_cast<double>(ranking.positives), m = static_cast<double>(ranking.negatives);
  double id_sum = 0, ood_sum = 0;
  for_each_component(ranking, [&](const Tie& tie, double u, double v) {
    id_sum += static_cast<double>(tie.positives) * u;
    ood_sum += static_cast<double>(tie.negatives) * v;
  });
  const double id_mean = id_sum / n, ood_mean = ood_sum / m;
  double id_squares = 0, ood_squares = 0;
  for_each_component(ranking, [&](const Tie& tie, double u, double v) {
    id_squares += static_cast<double>(tie.positives) * (u - id_mean) * (u - id_mean);
    ood_squares += static_cast<double>(tie.negatives) * (v - ood_mean) * (v - ood_mean);
  });
  return {area_under_roc(ranking), id_squares / (n * (n - 1) * 4 * m * m),
          ood_squares / (m * (m - 1) * 4 * n * n)};
}

template <class SomeScores>
Interval interval_of(SomeScores id, SomeScores ood, double level) {
  constexpr auto kFunction = "auroc_interval";
  require_level(kFunction, level);
  return auroc_interval(ranking(kFunction, id, ood, kLeastScores), level);
}

/// Of two AUROCs whose difference has this variance. Where it is 0, all rows agree.
Comparison comparison(double a, double b, double difference, double variance, double level) {
  const double z = difference == 0 ? 0 : difference / std::sqrt(variance);
  return {.auroc_a = a,
          .auroc_b = b,
          .difference = normal_interval(difference, variance, level, -1),
          .sd = std::sqrt(variance),
          .z = z,
          .p_value = std::erfc(std::abs(z) / std::numbers::sqrt2)};
}

/// Calls draw(row) for as many rows as there are, drawn with replacement.
template <class Draw>
void resample_rows(std::int64_t rows, ItemRandom random, const Draw& draw) {
  const auto count = static_cast<std::uint64_t>(rows);
  for (std::int64_t i = 0; i < rows; ++i) draw(static_cast<std::size_t>(random() * count / kWords));
}

/// Resamples of ID and OOD scores, each kind on its own.
class Resampling {
 public:
  explicit Resampling(const Ranking& ranking) : ranking_(ranking) {
    for (std::size_t t = 0; t < ranking.ties.size(); ++t) {
      const Tie& tie = ranking.ties[t];
      id_ties_.insert(id_ties_.end(), static_cast<std::size_t>(tie.positives), t);
      ood_ties_.insert(ood_ties_.end(), static_cast<std::size_t>(tie.negatives), t);
    }
  }

  Ranking draw(std::uint64_t seed, std::uint64_t number) const {
    Ranking drawn{std::vector<Tie>(ranking_.ties.size()), ranking_.positives, ranking_.negatives};
    resample_rows(ranking_.positives, ItemRandom(seed, kIdStream, number),
                  [&](std::size_t row) { ++drawn.ties[id_ties_[row]].positives; });
    resample_rows(ranking_.negatives, ItemRandom(seed, kOodStream, number),
                  [&](std::size_t row) { ++drawn.ties[ood_ties_[row]].negatives; });
    std::erase_if(drawn.ties, [](const Tie& tie) { return tie.positives + tie.negatives == 0; });
    return drawn;
  }

 private:
  const Ranking& ranking_;
  std::vector<std::size_t> id_ties_, ood_ties_;  // [n], [m] where in the ranking a row stands
};

}  // namespace

Interval auroc_interval(const Ranking& ranking, double level) {
  const DeLong found = delong(ranking);
  return normal_interval(found.auroc, found.id_variance + found.ood_variance, level, 0);
}

Interval auroc_interval(Scores id, Scores ood, double level) { return interval_of(id, ood, level); }

Interval auroc_interval(BinCounts id, BinCounts ood, double level) {
  return interval_of(id, ood, level);
}

void MeanAuroc::add(Scores id, Scores ood) { add(ranking(kAddToMean, id, ood, kLeastScores)); }

void MeanAuroc::add(BinCounts id, BinCounts ood) {
  add(ranking(kAddToMean, id, ood, kLeastScores));
}

void MeanAuroc::add(const Ranking& ranking) {
  const Index values =
      std::ranges::count_if(ranking.ties, [](const Tie& tie) { return tie.positives > 0; });
  VectorD shares(values), counts(values);
  Index next = 0;
  for_each_component(ranking, [&](const Tie& tie, double u, double) {
    if (tie.positives == 0) return;
    shares[next] = u / (2 * static_cast<double>(ranking.negatives));
    counts[next] = static_cast<double>(tie.positives);
    ++next;
  });
  if (sets_ == 0) {
    id_shares_ = VectorD::Zero(values);
    id_counts_ = std::move(counts);
  } else if (const double n = id_counts_.sum(); n != static_cast<double>(ranking.positives)) {
    throw_invalid("{}: id has {} scores, expected {} as in the first set", kAddToMean,
                  ranking.positives, n);
  } else if (id_counts_.size() != values || id_counts_ != counts) {
    throw_invalid("{}: id has other scores, expected those of the first set", kAddToMean);
  }
  const DeLong set = delong(ranking);
  id_shares_ += shares;
  ood_variance_ += set.ood_variance;
  sum_ += set.auroc;
  ++sets_;
}

Interval MeanAuroc::interval(double level) const {
  constexpr auto kFunction = "MeanAuroc.interval";
  require_level(kFunction, level);
  if (sets_ == 0) throw_invalid("{}: mean has 0 sets, expected 1 or more", kFunction);
  const auto sets = static_cast<double>(sets_);
  const double variance =
      variance_of_mean(id_shares_, id_counts_, sets) + ood_variance_ / (sets * sets);
  return normal_interval(sum_ / sets, variance, level, 0);
}

MetricIntervals bootstrap_intervals(Scores id, Scores ood, const BootstrapOptions& options) {
  constexpr auto kFunction = "bootstrap_intervals";
  require_level(kFunction, options.level);
  require_rate(kFunction, options.tpr);
  if (options.resamples < 2)
    throw_invalid("{}: resamples is {}, expected 2 or more", kFunction, options.resamples);
  const auto most = std::max(id.size(), ood.size());
  if (most > kWords)
    throw_invalid("{}: {} has {} scores, expected {} or fewer", kFunction,
                  id.size() == most ? "id" : "ood", most, kWords);
  const Ranking all = ranking(kFunction, id, ood, kLeastScores);
  const Metrics values = all_metrics(all, options.tpr);

  const Resampling resampling(all);
  std::vector<Metrics> resampled(static_cast<std::size_t>(options.resamples));
  parallel_for(options.resamples, options.exec, [&](Index r) {
    resampled[static_cast<std::size_t>(r)] =
        all_metrics(resampling.draw(options.seed, static_cast<std::uint64_t>(r)), options.tpr);
  });

  const auto interval = [&](double Metrics::*metric) -> Interval {
    std::vector<double> drawn(resampled.size());
    std::ranges::transform(resampled, drawn.begin(), metric);
    return {values.*metric, percentile(drawn, 50 * (1 - options.level)),
            percentile(drawn, 50 * (1 + options.level))};
  };
  return {.auroc = interval(&Metrics::auroc),
          .fpr = interval(&Metrics::fpr95),
          .fpr_ood = interval(&Metrics::fpr95_ood),
          .aupr_in = interval(&Metrics::aupr_in),
          .aupr_out = interval(&Metrics::aupr_out),
          .aupr_in_trapezoid = interval(&Metrics::aupr_in_trapezoid),
          .aupr_out_trapezoid = interval(&Metrics::aupr_out_trapezoid)};
}

Comparison compare_auroc(Scores id_a, Scores ood_a, Scores id_b, Scores ood_b, double level) {
  constexpr auto kFunction = "compare_auroc";
  require_level(kFunction, level);
  const auto require_as_many = [&](const char* name, Scores b, const char* as, Scores a) {
    if (b.size() != a.size())
      throw_invalid("{}: {} has {} scores, expected {} as {} has", kFunction, name, b.size(),
                    a.size(), as);
  };
  require_as_many("id_b", id_b, "id_a", id_a);
  require_as_many("ood_b", ood_b, "ood_a", ood_a);
  const Components a = components(kFunction, "id_a", id_a, "ood_a", ood_a);
  const Components b = components(kFunction, "id_b", id_b, "ood_b", ood_b);
  const Components difference{a.id - b.id, a.ood - b.ood};
  return comparison(a.mean(), b.mean(), difference.mean(), variance_of_mean(difference), level);
}

Comparison compare_auroc_unpaired(Scores id_a, Scores ood_a, Scores id_b, Scores ood_b,
                                  double level) {
  constexpr auto kFunction = "compare_auroc_unpaired";
  require_level(kFunction, level);
  const Components a = components(kFunction, "id_a", id_a, "ood_a", ood_a);
  const Components b = components(kFunction, "id_b", id_b, "ood_b", ood_b);
  return comparison(a.mean(), b.mean(), a.mean() - b.mean(),
                    variance_of_mean(a) + variance_of_mean(b), level);
}

}  // namespace ood
