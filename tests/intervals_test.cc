#include "ood/intervals.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "normal_quantile.h"
#include "ood/random.h"

namespace {

using ood::BootstrapOptions;
using ood::Comparison;
using ood::Index;
using ood::Interval;
using ood::MetricIntervals;
using ood::Metrics;
using ood::Scores;
using Values = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kNormal95 = 1.959963984540054;  // scipy.stats.norm.ppf(0.975)

void check_close(double got, double want, double bound = 1e-13) {
  CAPTURE(got);
  CAPTURE(want);
  CHECK(std::abs(got - want) <= bound);
}

void check_close(const Interval& got, const Interval& want, double bound = 1e-13) {
  check_close(got.value, want.value, bound);
  check_close(got.low, want.low, bound);
  check_close(got.high, want.high, bound);
}

void check_equal(const Interval& got, const Interval& want) { check_close(got, want, 0); }

Values repeat(const Values& values, const std::vector<std::size_t>& counts) {
  Values all;
  for (std::size_t i = 0; i < values.size(); ++i) all.insert(all.end(), counts[i], values[i]);
  return all;
}

Values random_scores(std::mt19937& random, std::size_t count, int distinct) {
  std::uniform_int_distribution<int> pick(0, distinct - 1);
  Values scores(count);
  std::ranges::generate(scores, [&] { return 0.25 * pick(random); });
  return scores;
}

/// Normal scores of a draw of a simulation.
Values normal_scores(std::uint32_t stream, int draw, std::size_t count, double mean) {
  Values scores(count);
  ood::fill_normal(2024, stream, static_cast<std::uint64_t>(draw), scores);
  for (double& score : scores) score += mean;
  return scores;
}

double normal_probability(double x) { return std::erfc(-x / std::sqrt(2.)) / 2; }

/// The definition: O(n m).
double auroc_by_pairs(Scores id, Scores ood) {
  double wins = 0;
  for (const double i : id)
    for (const double o : ood) wins += i > o ? 1 : i == o ? 0.5 : 0;
  return wins / static_cast<double>(id.size() * ood.size());
}

/// What a row's absence changes: the jackknife variance of any statistic of several arrays, whose
/// rows come and go together where arrays are in one group. Of AUROCs it is DeLong's (his u_i are
/// the pseudo-values), with nothing known of components.
double jackknife_variance(const std::vector<Values>& arrays,
                          const std::vector<std::vector<std::size_t>>& groups,
                          const std::function<double(const std::vector<Values>&)>& statistic) {
  double variance = 0;
  for (const auto& group : groups) {
    const std::size_t n = arrays[group[0]].size();
    Values without(n);
    double mean = 0;
    for (std::size_t row = 0; row < n; ++row) {
      auto fewer = arrays;
      for (const std::size_t array : group)
        fewer[array].erase(fewer[array].begin() + static_cast<std::ptrdiff_t>(row));
      without[row] = statistic(fewer);
      mean += without[row] / static_cast<double>(n);
    }
    double squares = 0;
    for (const double value : without) squares += (value - mean) * (value - mean);
    variance += squares * static_cast<double>(n - 1) / static_cast<double>(n);
  }
  return variance;
}

Interval clipped(double value, double half, double least) {
  return {value, std::max(value - half, least), std::min(value + half, 1.)};
}

/// check(interval, metric) for each metric.
template <class Check>
void check_all(const MetricIntervals& got, const Check& check) {
  check(got.auroc, &Metrics::auroc);
  check(got.fpr, &Metrics::fpr95);
  check(got.fpr_ood, &Metrics::fpr95_ood);
  check(got.aupr_in, &Metrics::aupr_in);
  check(got.aupr_out, &Metrics::aupr_out);
  check(got.aupr_in_trapezoid, &Metrics::aupr_in_trapezoid);
  check(got.aupr_out_trapezoid, &Metrics::aupr_out_trapezoid);
}

}  // namespace

TEST_CASE("normal_two_sided: agrees with scipy.stats.norm") {
  // norm.ppf((1 + level) / 2) for levels below 0.5, norm.isf((1 - level) / 2) above; scipy 1.17
  const std::pair<double, double> expected[] = {
      {1e-12, 1.2534255576721639e-12}, {1e-6, 1.2533141372127224e-06},
      {0.1, 0.12566134685507416},      {0.3, 0.38532046640756773},
      {0.5, 0.6744897501960817},       {0.6827, 1.0000217133229992},
      {0.8, 1.2815515655446004},       {0.9, 1.6448536269514729},
      {0.95, 1.959963984540054},       {0.99, 2.5758293035489004},
      {0.999, 3.2905267314918945},     {0.999999999, 6.10941020938345},
      {1 - 1e-15, 8.026957018033892},  {1 - 0x1p-53, 8.292361075813597}};
  for (const auto& expectation : expected) {
    const double level = expectation.first, z = expectation.second;
    CAPTURE(level);
    // (1 + level) / 2 leaves scipy the first five digits of 1e-12 alone; d z / d level < 1.26 there
    check_close(ood::normal_two_sided(level), z, level < 0.5 ? 2e-16 : 4e-16 * z);
  }
  // sqrt(pi / 2) level, the first term of the series; the next one is level^3 / 2 or so
  CHECK(std::abs(ood::normal_two_sided(1e-12) / 1.2533141373155003e-12 - 1) <= 1e-15);
  CHECK(ood::normal_two_sided(std::numeric_limits<double>::denorm_min()) >= 0);
}

TEST_CASE("auroc_interval: agrees with published implementations") {
  // 109 CT images rated from 1 to 5, of 58 normal and 51 abnormal patients: Hanley & McNeil,
  // Radiology 143 (1982). confidenceinterval 1.0.5 (PyPI), delong_roc_variance, in float32:
  // 0.89317113, standard error 0.0307244092.
  const Values normal = repeat({1, 2, 3, 4, 5}, {33, 6, 6, 11, 2});
  const Values abnormal = repeat({1, 2, 3, 4, 5}, {3, 2, 2, 11, 33});
  check_close(ood::auroc_interval(abnormal, normal),
              clipped(0.89317113, kNormal95 * 0.0307244092, 0), 1e-7);

  // WFNS grades 1 to 5 of 113 patients with aSAH, 72 of good and 41 of poor outcome: Turck et al.,
  // Intensive Care Medicine 36 (2010), the example of pROC. pROC 1.19.1, auc and var(method =
  // "delong"), as quoted with 17 digits by a test that is on GitHub; its ci.auc prints
  // 0.7485-0.8988.
  const Values good = repeat({1, 2, 3, 4, 5}, {37, 20, 3, 8, 4});
  const Values poor = repeat({1, 2, 3, 4, 5}, {2, 12, 1, 8, 18});
  check_close(ood::auroc_interval(poor, good),
              clipped(0.82367886178861793, kNormal95 * std::sqrt(0.0014699147088236264), 0));

  // MLstatkit 0.1.91 (PyPI), Delong_test, in float64: see compare_auroc below
  const Values id{7, 3, 9, 5, 8, 4, 6, 9, 2, 7, 8, 5}, ood{1, 4, 2, 6, 3, 5, 1, 2, 7};
  check_close(ood::auroc_interval(id, ood),
              {0.8009259259259259, 0.6115954982962294, 0.9902563535556226});
}

TEST_CASE("auroc_interval: by hand") {
  // u = 1, 1/2 and v = 1, 1/2: A = 3/4, Var u = Var v = 1/8, sd^2 = 1/16 + 1/16
  check_close(ood::auroc_interval(Values{4, 2}, Values{1, 3}, 0.5),
              clipped(0.75, 0.6744897501960817 * std::sqrt(0.125), 0));
  CHECK(ood::auroc_interval(Values{4, 2}, Values{1, 3}).high == 1);  // 0.75 + 0.69
  CHECK(ood::auroc_interval(Values{1, 3}, Values{4, 2}).low == 0);   // 0.25 - 0.69
  // Without variance: separated, reversed, all equal
  check_equal(ood::auroc_interval(Values{3, 4, 5}, Values{1, 2}), {1, 1, 1});
  check_equal(ood::auroc_interval(Values{1, 2}, Values{3, 4, 5}), {0, 0, 0});
  check_equal(ood::auroc_interval(Values{7, 7, 7}, Values{7, 7}), {0.5, 0.5, 0.5});
}

TEST_CASE("auroc_interval: agrees with the jackknife of counted pairs, ties and infinities in") {
  std::mt19937 random(30);
  for (const int distinct : {2, 5, 40, 100000}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      CAPTURE(distinct);
      CAPTURE(repeat);
      auto id = random_scores(random, 2 + random() % 30, distinct);
      auto ood = random_scores(random, 2 + random() % 30, distinct);
      if (repeat % 2 == 0) id[0] = ood[0] = kInf, id[1] = ood[1] = -kInf;
      const double variance = jackknife_variance({id, ood}, {{0}, {1}}, [](const auto& arrays) {
        return auroc_by_pairs(arrays[0], arrays[1]);
      });
      const Interval interval = ood::auroc_interval(id, ood);
      CHECK(interval.value == ood::auroc(id, ood));
      check_close(interval, clipped(auroc_by_pairs(id, ood), kNormal95 * std::sqrt(variance), 0),
                  1e-12);
    }
  }
}

TEST_CASE("auroc_interval: ranks alone count") {
  std::mt19937 random(31);
  auto id = random_scores(random, 70, 30), ood = random_scores(random, 50, 25);
  const Interval interval = ood::auroc_interval(id, ood, 0.9);
  Values logs_id = id, logs_ood = ood;  // the least score becomes -infinity
  for (Values* scores : {&logs_id, &logs_ood})
    for (double& score : *scores) score = std::log(score);
  check_equal(ood::auroc_interval(logs_id, logs_ood, 0.9), interval);
  std::ranges::shuffle(id, random);
  std::ranges::shuffle(ood, random);
  check_close(ood::auroc_interval(id, ood, 0.9), interval, 1e-15);
  const Interval mirrored = ood::auroc_interval(ood, id, 0.9);
  check_close(mirrored, {1 - interval.value, 1 - interval.high, 1 - interval.low}, 1e-15);
}

TEST_CASE("MeanAuroc: agrees with the jackknife of the mean of counted pairs") {
  std::mt19937 random(32);
  for (const int distinct : {3, 12, 100000}) {
    CAPTURE(distinct);
    const auto id = random_scores(random, 25, distinct);
    const std::vector<Values> arrays{id, random_scores(random, 30, distinct),
                                     random_scores(random, 12, distinct),
                                     random_scores(random, 20, distinct)};
    const auto mean = [](const std::vector<Values>& of) {
      double sum = 0;
      for (std::size_t set = 1; set < of.size(); ++set) sum += auroc_by_pairs(of[0], of[set]);
      return sum / static_cast<double>(of.size() - 1);
    };
    ood::MeanAuroc sets;
    Values same = arrays[0];  // in any order
    for (std::size_t set = 1; set < arrays.size(); ++set) {
      sets.add(same, arrays[set]);
      std::ranges::shuffle(same, random);
    }
    const double variance = jackknife_variance(arrays, {{0}, {1}, {2}, {3}}, mean);
    check_close(sets.interval(), clipped(mean(arrays), kNormal95 * std::sqrt(variance), 0), 1e-12);

    ood::MeanAuroc one;
    one.add(id, arrays[1]);
    check_close(one.interval(0.8), ood::auroc_interval(id, arrays[1], 0.8), 1e-15);
  }
  ood::MeanAuroc separated;
  separated.add(Values{3, 4}, Values{1, 2, 2});
  separated.add(Values{7, 9}, Values{0, -kInf});
  check_equal(separated.interval(), {1, 1, 1});
}

TEST_CASE("compare_auroc: agrees with a published implementation") {
  // MLstatkit 0.1.91 (PyPI), Delong_test, with its sign turned: it takes b - a
  const Values id_a{7, 3, 9, 5, 8, 4, 6, 9, 2, 7, 8, 5}, ood_a{1, 4, 2, 6, 3, 5, 1, 2, 7};
  const Values id_b{6, 5, 7, 3, 9, 2, 4, 8, 6, 1, 7, 6}, ood_b{2, 5, 1, 7, 4, 3, 6, 2, 4};
  const Comparison got = ood::compare_auroc(id_a, ood_a, id_b, ood_b);
  check_close(got.auroc_a, 0.8009259259259259);
  check_close(got.auroc_b, 0.6944444444444445);
  check_close(got.z, 0.8327055150158696);
  check_close(got.p_value, 0.4050108333964366);
  const double sd = std::sqrt(0.016351789499937645);  // var_diff
  check_close(got.difference, clipped(0.8009259259259259 - 0.6944444444444445, kNormal95 * sd, -1));
  // confidenceinterval 1.0.5 (PyPI), fastDeLong_no_weights and calc_pvalue, in float32
  check_close(got.p_value, 0.40501104, 1e-6);
}

TEST_CASE("compare_auroc: agrees with the jackknife of counted pairs") {
  std::mt19937 random(33);
  for (const int distinct : {3, 12, 100000}) {
    CAPTURE(distinct);
    const std::vector<Values> arrays{
        random_scores(random, 25, distinct), random_scores(random, 30, distinct),
        random_scores(random, 25, distinct), random_scores(random, 30, distinct)};
    const auto difference = [](const std::vector<Values>& of) {
      return auroc_by_pairs(of[0], of[1]) - auroc_by_pairs(of[2], of[3]);
    };
    const double variance = jackknife_variance(arrays, {{0, 2}, {1, 3}}, difference);
    const Comparison got = ood::compare_auroc(arrays[0], arrays[1], arrays[2], arrays[3], 0.9);
    CHECK(got.auroc_a == ood::auroc(arrays[0], arrays[1]));
    CHECK(got.auroc_b == ood::auroc(arrays[2], arrays[3]));
    check_close(got.difference,
                clipped(difference(arrays), 1.6448536269514729 * std::sqrt(variance), -1), 1e-12);
    const double z = difference(arrays) / std::sqrt(variance);
    check_close(got.z, z, 1e-10);
    check_close(got.p_value, 2 * normal_probability(-std::abs(z)), 1e-10);

    const Comparison turned = ood::compare_auroc(arrays[2], arrays[3], arrays[0], arrays[1], 0.9);
    CHECK(turned.z == -got.z);
    CHECK(turned.p_value == got.p_value);
    check_equal(turned.difference,
                {-got.difference.value, -got.difference.high, -got.difference.low});
  }
}

TEST_CASE("compare_auroc_unpaired: other rows, other numbers of rows") {
  // All pairs in NumPy: means over the other axis, variances with n - 1, scipy.stats.norm
  const Values id_a = {3, 4, 5, 6, 2.5}, ood_a = {1, 2, 5, 3};
  const Values id_b = {2, 4, 1, 6}, ood_b = {1, 3, 0.5, 2, 7};
  const Comparison got = ood::compare_auroc_unpaired(id_a, ood_a, id_b, ood_b, 0.9);
  CHECK(got.auroc_a == doctest::Approx(0.75).epsilon(1e-14));
  CHECK(got.auroc_b == doctest::Approx(0.6).epsilon(1e-14));
  CHECK(got.difference.value == doctest::Approx(0.15).epsilon(1e-13));
  CHECK(got.difference.low == doctest::Approx(-0.3170486494857283).epsilon(1e-12));
  CHECK(got.difference.high == doctest::Approx(0.6170486494857281).epsilon(1e-12));
  CHECK(got.z == doctest::Approx(0.528270543795374).epsilon(1e-12));
  CHECK(got.p_value == doctest::Approx(0.5973115731942722).epsilon(1e-12));
  CHECK_THROWS_WITH_AS(ood::compare_auroc_unpaired(id_a, ood_a, Values{1}, ood_b),
                       doctest::Contains("compare_auroc_unpaired: id_b has 1"),
                       std::invalid_argument);
  CHECK_THROWS_AS(ood::compare_auroc_unpaired(id_a, ood_a, id_b, ood_b, 1), std::invalid_argument);
}

TEST_CASE("compare_auroc: where the difference does not vary") {
  const Values id{5, 3, 2, 2}, ood{1, 3, 2};
  const auto check = [](const Comparison& got, double value, double z, double p_value) {
    check_equal(got.difference, {value, value, value});
    CHECK(got.z == z);
    CHECK(got.p_value == p_value);
  };
  // The same ranks
  check(ood::compare_auroc(id, ood, Values{10, 6, 4, 4}, Values{2, 6, 4}), 0, 0, 1);
  // Separated by a, not told apart by b
  check(ood::compare_auroc(Values{3, 4}, Values{1, 2}, Values{0, 0}, Values{0, 0}), 0.5, kInf, 0);
  check(ood::compare_auroc(Values{0, 0}, Values{0, 0}, Values{3, 4}, Values{1, 2}), -0.5, -kInf, 0);
  // Each row is beaten by a third more of the others: in thirds, u_a = v_a = 3 2 1, u_b = v_b = 2 1 0
  check(ood::compare_auroc(Values{6, 4, 2}, Values{1, 3, 5}, Values{5, 3, 1}, Values{2, 4, 6}),
        1. / 3, kInf, 0);
}

TEST_CASE("bootstrap_intervals: the same as metrics of resampled rows") {
  // 64 and 32 scores, so that a row is the upper bits of a random number
  std::mt19937 random(34);
  auto id = random_scores(random, 64, 40), ood = random_scores(random, 32, 20);
  BootstrapOptions options;
  options.resamples = 97;
  options.seed = 0x123456789abcdef0;
  options.level = 0.8;
  const MetricIntervals got = ood::bootstrap_intervals(id, ood, options);

  // Rows are numbered from the highest score down
  std::ranges::sort(id, std::greater<>());
  std::ranges::sort(ood, std::greater<>());
  std::vector<Metrics> drawn;
  for (std::uint64_t r = 0; r < 97; ++r) {
    ood::ItemRandom from_id(options.seed, 0x500, r), from_ood(options.seed, 0x501, r);
    Values ids(id.size()), oods(ood.size());
    std::ranges::generate(ids, [&] { return id[from_id() >> 26]; });
    std::ranges::generate(oods, [&] { return ood[from_ood() >> 27]; });
    drawn.push_back(ood::compute_metrics(ids, oods));
  }
  const auto check = [&](const Interval& interval, double Metrics::*metric) {
    Values values(drawn.size());
    std::ranges::transform(drawn, values.begin(), metric);
    std::ranges::sort(values);
    // numpy.percentile(values, [10, 90]): 96 * 0.1 = 9.6, 96 * 0.9 = 86.4
    check_close(interval,
                {ood::compute_metrics(id, ood).*metric, values[9] + 0.6 * (values[10] - values[9]),
                 values[86] + 0.4 * (values[87] - values[86])},
                1e-14);
  };
  check_all(got, check);
}

TEST_CASE("bootstrap_intervals: percentiles of all resamples there are") {
  const Values id{3, kInf, 1, 3}, ood{2, 3, -kInf};  // 4^4 and 3^3 resamples, each equally likely
  std::vector<Metrics> all;
  for (unsigned i = 0; i < 256; ++i)
    for (unsigned o = 0; o < 27; ++o)
      all.push_back(
          ood::compute_metrics(Values{id[i % 4], id[i / 4 % 4], id[i / 16 % 4], id[i / 64]},
                               Values{ood[o % 3], ood[o / 3 % 3], ood[o / 9]}));

  BootstrapOptions options;
  options.resamples = 20000;
  options.level = 0.7;
  const MetricIntervals got = ood::bootstrap_intervals(id, ood, options);
  const auto check = [&](const Interval& interval, double Metrics::*metric) {
    const auto share = [&](const auto& holds) {
      return static_cast<double>(
                 std::ranges::count_if(all, [&](const Metrics& m) { return holds(m.*metric); })) /
             static_cast<double>(all.size());
    };
    // Up to rounding, and to 4 standard deviations of a share of 20,000 draws, 4 sqrt(.15 .85 / 20000)
    for (const auto& bound : {std::pair(interval.low, 0.15), std::pair(interval.high, 0.85)}) {
      const double end = bound.first, percentile = bound.second;
      const double below = end - 1e-12, above = end + 1e-12;
      CAPTURE(end);
      CHECK(share([&](double value) { return value < below; }) <= percentile + 0.0101);
      CHECK(share([&](double value) { return value <= above; }) >= percentile - 0.0101);
    }
    CHECK(interval.low < interval.high);
  };
  check_all(got, check);
}

TEST_CASE("bootstrap_intervals: values, rate, threads and seed") {
  std::mt19937 random(35);
  const auto id = random_scores(random, 300, 200), ood = random_scores(random, 170, 150);
  BootstrapOptions options;
  options.resamples = 50;
  options.tpr = 0.8;
  options.exec.threads = 1;
  const MetricIntervals one = ood::bootstrap_intervals(id, ood, options);
  CHECK(one.auroc.value == ood::auroc(id, ood));
  CHECK(one.fpr.value == ood::fpr_at_tpr(id, ood, 0.8));
  CHECK(one.fpr_ood.value == ood::fpr_at_tpr_ood(id, ood, 0.8));
  CHECK(one.aupr_in.value == ood::aupr_in(id, ood));
  CHECK(one.aupr_out.value == ood::aupr_out(id, ood));
  CHECK(one.aupr_in_trapezoid.value == ood::aupr_in_trapezoid(id, ood));
  CHECK(one.aupr_out_trapezoid.value == ood::aupr_out_trapezoid(id, ood));

  for (const int threads : {2, 3}) {
    options.exec.threads = threads;
    const MetricIntervals more = ood::bootstrap_intervals(id, ood, options);
    for (const auto interval :
         {&MetricIntervals::auroc, &MetricIntervals::fpr, &MetricIntervals::fpr_ood,
          &MetricIntervals::aupr_in, &MetricIntervals::aupr_out,
          &MetricIntervals::aupr_in_trapezoid, &MetricIntervals::aupr_out_trapezoid})
      check_equal(more.*interval, one.*interval);
  }
  options.seed = std::uint64_t{1} << 40;
  CHECK(ood::bootstrap_intervals(id, ood, options).auroc.low != one.auroc.low);

  // Separated scores stay so in every resample
  check_equal(ood::bootstrap_intervals(Values{3, 4, 5}, Values{1, 2}, options).auroc, {1, 1, 1});
}

TEST_CASE("intervals: errors name the function, the array and what is expected") {
  const Values good{0, 1}, one{1}, bad{1, kNaN}, three{1, 2, 3};
  const auto message = [](const std::function<void()>& work) -> std::string {
    try {
      work();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message([&] { ood::auroc_interval(one, good); }) ==
        "auroc_interval: id has 1 scores, expected 2 or more");
  CHECK(message([&] { ood::auroc_interval(good, {}); }) ==
        "auroc_interval: ood has 0 scores, expected 2 or more");
  CHECK(message([&] { ood::auroc_interval(bad, good); }) ==
        "auroc_interval: id score 1 is NaN, expected a number");
  for (const double level : {0., 1., -0.5, kNaN})
    CHECK(message([&] {
            ood::auroc_interval(good, good, level);
          }).ends_with("expected a share in (0, 1)"));
  CHECK(message([&] { ood::auroc_interval(good, good, 95); }) ==
        "auroc_interval: level is 95, expected a share in (0, 1)");

  ood::MeanAuroc mean;
  CHECK(message([&] { mean.interval(); }) ==
        "MeanAuroc.interval: mean has 0 sets, expected 1 or more");
  CHECK(message([&] { mean.add(good, one); }) ==
        "MeanAuroc.add: ood has 1 scores, expected 2 or more");
  mean.add(good, three);
  CHECK(message([&] { mean.add(three, good); }) ==
        "MeanAuroc.add: id has 3 scores, expected 2 as in the first set");
  CHECK(message([&] {
          mean.add(Values{1, 1}, good);
        }) == "MeanAuroc.add: id has other scores, expected those of the first set");
  CHECK(message([&] { mean.interval(1); }) ==
        "MeanAuroc.interval: level is 1, expected a share in (0, 1)");
  check_close(mean.interval(), ood::auroc_interval(good, three), 1e-15);  // what failed is not in

  const auto bootstrap = [&](Scores id, Scores ood, const BootstrapOptions& options) {
    return message([&] { ood::bootstrap_intervals(id, ood, options); });
  };
  CHECK(bootstrap(one, good, {}) == "bootstrap_intervals: id has 1 scores, expected 2 or more");
  CHECK(bootstrap(good, bad, {}) == "bootstrap_intervals: ood score 1 is NaN, expected a number");
  CHECK(bootstrap(good, good, {.resamples = 1}) ==
        "bootstrap_intervals: resamples is 1, expected 2 or more");
  CHECK(bootstrap(good, good, {.level = 0}) ==
        "bootstrap_intervals: level is 0, expected a share in (0, 1)");
  CHECK(bootstrap(good, good, {.tpr = 1.5}) ==
        "bootstrap_intervals: tpr is 1.5, expected a rate in (0, 1]");

  const auto compare = [&](Scores id_a, Scores ood_a, Scores id_b, Scores ood_b) {
    return message([&] { ood::compare_auroc(id_a, ood_a, id_b, ood_b); });
  };
  CHECK(compare(good, good, three, good) ==
        "compare_auroc: id_b has 3 scores, expected 2 as id_a has");
  CHECK(compare(good, three, good, good) ==
        "compare_auroc: ood_b has 2 scores, expected 3 as ood_a has");
  CHECK(compare(good, one, good, one) == "compare_auroc: ood_a has 1 scores, expected 2 or more");
  CHECK(compare(good, good, bad, good) == "compare_auroc: id_b score 1 is NaN, expected a number");
  CHECK(message([&] { ood::compare_auroc(good, good, good, good, 2); }) ==
        "compare_auroc: level is 2, expected a share in (0, 1)");
}

// Simulations: ID scores N(d, 1), OOD scores N(0, 1), whose AUROC is P(N(d, 2) > 0). One seed for
// all, taken once. The standard deviation of 95 % is 0.22 % of 10,000 draws and 0.69 % of 1,000.

TEST_CASE("auroc_interval: 95 % intervals cover the truth in 94 to 96 % of 10,000 draws") {
  const double shift = 1.4657;
  const double truth = normal_probability(shift / std::sqrt(2.));  // 0.85
  int covered = 0, mean_covered = 0;
  for (int draw = 0; draw < 10000; ++draw) {
    const auto id = normal_scores(1, draw, 300, shift);
    const Interval interval = ood::auroc_interval(id, normal_scores(2, draw, 300, 0));
    if (interval.low <= truth && truth <= interval.high) ++covered;
    // Two sets more, of means 0 and -1, and the truth of the mean of all three
    ood::MeanAuroc mean;
    mean.add(id, normal_scores(2, draw, 300, 0));
    mean.add(id, normal_scores(3, draw, 200, 0));
    mean.add(id, normal_scores(4, draw, 400, -1));
    const double mean_truth = (2 * truth + normal_probability((shift + 1) / std::sqrt(2.))) / 3;
    const Interval of_mean = mean.interval();
    if (of_mean.low <= mean_truth && mean_truth <= of_mean.high) ++mean_covered;
  }
  CHECK(covered >= 9400);
  CHECK(covered <= 9600);
  CHECK(mean_covered >= 9400);
  CHECK(mean_covered <= 9600);
}

TEST_CASE("bootstrap_intervals: 95 % intervals cover the truth in 94 to 96 % of 1,000 draws") {
  const double shift = 1.4657;
  const double auroc = normal_probability(shift / std::sqrt(2.));
  const double fpr = normal_probability(1.6448536269514722 - shift);  // the same either way round
  int auroc_covered = 0, fpr_covered = 0, fpr_ood_covered = 0;
  for (int draw = 0; draw < 1000; ++draw) {
    BootstrapOptions options;
    options.resamples = 500;
    options.seed = static_cast<std::uint64_t>(draw);
    options.exec.threads = 1;  // so short a work gains nothing from more
    const MetricIntervals got = ood::bootstrap_intervals(normal_scores(1, draw, 400, shift),
                                                         normal_scores(2, draw, 400, 0), options);
    if (got.auroc.low <= auroc && auroc <= got.auroc.high) ++auroc_covered;
    if (got.fpr.low <= fpr && fpr <= got.fpr.high) ++fpr_covered;
    if (got.fpr_ood.low <= fpr && fpr <= got.fpr_ood.high) ++fpr_ood_covered;
  }
  for (const int covered : {auroc_covered, fpr_covered, fpr_ood_covered}) {
    CHECK(covered >= 940);
    CHECK(covered <= 960);
  }
}

TEST_CASE("compare_auroc: p-values are uniform where two scores are equally good") {
  // Scores of a row share half their variance, so that they are dependent
  constexpr int kDraws = 10000;
  std::vector<int> deciles(10);
  int rejected = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto score = [draw](std::uint32_t stream, std::size_t count, double mean) {
      const auto own = normal_scores(stream, draw, count, mean);
      auto scores = normal_scores(5 + stream % 2, draw, count, 0);  // what both have in common
      for (std::size_t i = 0; i < count; ++i) scores[i] += own[i];
      return scores;
    };
    // Streams 10 and 12 are of ID, 11 and 13 of OOD rows
    const double p = ood::compare_auroc(score(10, 250, 2), score(11, 250, 0), score(12, 250, 2),
                                        score(13, 250, 0))
                         .p_value;
    if (p < 0.05) ++rejected;
    ++deciles[std::min<std::size_t>(static_cast<std::size_t>(p * 10), 9)];
  }
  CHECK(rejected >= 435);  // 3 standard deviations of 500 are 65
  CHECK(rejected <= 565);
  for (const int decile : deciles) {
    CHECK(decile >= 880);  // 4 standard deviations of 1,000 are 120
    CHECK(decile <= 1120);
  }
}
