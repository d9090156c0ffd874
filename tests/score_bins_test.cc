#include "ood/score_bins.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "named_metrics.h"
#include "ood/intervals.h"

namespace {

using ood::BinnedMetrics;
using ood::Index;
using ood::Interval;
using ood::kMetrics;
using ood::Metrics;
using ood::NamedMetric;
using Floats = std::vector<float>;
using Values = std::vector<double>;
using Counts = std::vector<std::int64_t>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr double kRounding = 1e-12;

Values doubles(const Floats& scores) { return {scores.begin(), scores.end()}; }

/// The definition, one edge at a time.
std::size_t bin_by_edges(float score, const Floats& edges) {
  std::size_t bin = 0;
  for (const float edge : edges) {
    bin += score >= edge ? 1 : 0;
    bin += score > edge ? 1 : 0;
  }
  return bin;
}

Counts counts_by_edges(const Floats& scores, const Floats& edges) {
  Counts counts(2 * edges.size() + 1, 0);
  for (const float score : scores) ++counts[bin_by_edges(score, edges)];
  return counts;
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "none";
}

/// Of many shapes: few or many distinct values, of either sign, dense at one, with infinities.
Floats random_scores(std::mt19937& random, std::size_t count) {
  std::uniform_int_distribution<int> shape(0, 4), few(-2, 2), wide(-30, 30);
  std::normal_distribution<float> normal;
  const int chosen = shape(random);
  Floats scores(count);
  for (float& score : scores) {
    switch (chosen) {
      case 0:
        score = static_cast<float>(few(random));
        break;
      case 1:
        score = normal(random);
        break;
      case 2:
        score = 1 - std::exp2(static_cast<float>(wide(random)) - 31);
        break;
      case 3:
        score = std::ldexp(normal(random), wide(random));
        break;
      default:
        score = std::array{-kInf, -1.f, -0.f, 0.f, kInf}[static_cast<std::size_t>(few(random) + 2)];
    }
  }
  return scores;
}

Floats random_edges(std::mt19937& random, const Floats& scores) {
  Floats edges;
  std::bernoulli_distribution taken(std::uniform_real_distribution<double>(0, 0.5)(random));
  for (const float score : scores)
    if (taken(random)) edges.push_back(score);
  for (const float other : random_scores(random, 2)) edges.push_back(other);
  return ood::bin_edges(edges, 1000);
}

void check_within(const Metrics& got, const BinnedMetrics& of) {
  for (const NamedMetric& metric : kMetrics) {
    CAPTURE(metric.name);
    const double value = got.*metric.member;
    const double low = of.bounds.low.*metric.member, high = of.bounds.high.*metric.member;
    CAPTURE(value);
    CAPTURE(low);
    CAPTURE(high);
    CHECK(low <= value + kRounding);
    CHECK(value <= high + kRounding);
    CHECK(0 <= low);
    CHECK(low <= of.value.*metric.member);
    CHECK(of.value.*metric.member <= high);
    CHECK(high <= 1);
  }
}

/// visit(scores of positives, scores of negatives) for every way to order and tie p and n of them in (0, 1).
void each_refinement(int p, int n, const std::function<void(const Floats&, const Floats&)>& visit,
                     const Floats& positives = {}, const Floats& negatives = {},
                     float next = 1 - 0x1p-6f) {
  if (p == 0 && n == 0) return visit(positives, negatives);
  for (int i = 0; i <= p; ++i)
    for (int j = i == 0 ? 1 : 0; j <= n; ++j) {
      Floats more = positives, others = negatives;
      more.insert(more.end(), static_cast<std::size_t>(i), next);
      others.insert(others.end(), static_cast<std::size_t>(j), next);
      each_refinement(p - i, n - j, visit, more, others, next - 0x1p-6f);
    }
}

}  // namespace

TEST_CASE("bin_counts: every edge is a bin of its own, -0 is 0, infinities are at the ends") {
  const Floats edges{-1, 0, 2.5f};
  CHECK(ood::bin_counts(Floats{-kInf, -2, -1, -0.5f, -0.f, 0, 1e-45f, 2.5f, 2.5f, 3, kInf, kInf},
                        edges) == Counts{2, 1, 1, 2, 1, 2, 3});
  CHECK(ood::bin_counts(Floats{-kInf, 0, kInf}, Floats{-kInf, -0.f, kInf}) ==
        Counts{0, 1, 0, 1, 0, 1, 0});
  CHECK(ood::bin_counts(Floats{1, 2, -kInf}, Floats{}) == Counts{3});
  CHECK(ood::bin_counts(Floats{}, edges) == Counts(7, 0));
  CHECK(ood::bin_counts(Floats{1, 2, 2, 3}, Floats{2}) == Counts{1, 2, 1});
}

TEST_CASE("bin_counts: those of comparing with every edge, and they add up") {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const Floats scores = random_scores(random, 200), edges = random_edges(random, scores);
    CAPTURE(round);
    REQUIRE(std::ranges::is_sorted(edges));
    CHECK(ood::bin_counts(scores, edges) == counts_by_edges(scores, edges));
    const std::span<const float> all(scores);
    Counts sum = ood::bin_counts(all.subspan(130), edges);
    const Counts first = ood::bin_counts(all.first(130), edges);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += first[i];
    CHECK(sum == ood::bin_counts(scores, edges));
  }
}

TEST_CASE("bin_counts: neighbours of thousands of edges, by bisection") {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(12, 3);
  Floats samples(30000);
  for (float& sample : samples) sample = normal(random);
  for (const Index most : {2, 3, 100, 4097, 20000}) {
    const Floats edges = ood::bin_edges(samples, most);
    Floats scores = edges;
    for (const float edge : edges) {
      scores.push_back(std::nextafter(edge, kInf));
      scores.push_back(std::nextafter(edge, -kInf));
    }
    Counts want(2 * edges.size() + 1, 0);
    for (const float score : scores) {
      const auto at = std::ranges::lower_bound(edges, score);
      ++want[static_cast<std::size_t>(2 * (at - edges.begin())) +
             (at != edges.end() && *at == score)];
    }
    CHECK(ood::bin_counts(scores, edges) == want);
  }
}

TEST_CASE("score_sample: evenly spaced order statistics") {
  Floats scores(100);
  std::iota(scores.begin(), scores.end(), 0.f);
  std::shuffle(scores.begin(), scores.end(), std::mt19937(3));
  CHECK(ood::score_sample(scores, 4) == Floats{0, 33, 66, 99});
  CHECK(ood::score_sample(scores, 2) == Floats{0, 99});
  CHECK(ood::score_sample(scores, 100).size() == 100);
  CHECK(ood::score_sample(scores, 1000).size() == 100);
  CHECK(ood::score_sample(Floats{kInf, 1, -kInf, 1}, 9) == Floats{-kInf, 1, 1, kInf});
  CHECK(ood::score_sample(Floats{}, 5).empty());
  CHECK(ood::score_sample(Floats{7}, 5) == Floats{7});

  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    const auto n = std::uniform_int_distribution<std::size_t>(2, 300)(random);
    const auto most = std::uniform_int_distribution<Index>(2, 50)(random);
    const Floats some = random_scores(random, n), sample = ood::score_sample(some, most);
    const std::size_t s = std::min(n, static_cast<std::size_t>(most));
    REQUIRE(sample.size() == s);
    CHECK(sample.front() == std::ranges::min(some));
    CHECK(sample.back() == std::ranges::max(some));
    for (std::size_t i = 1; i < s; ++i) {
      const auto between = std::ranges::count_if(
          some, [&](float score) { return sample[i - 1] < score && score < sample[i]; });
      CHECK(between <= static_cast<std::ptrdiff_t>((n - 1 + s - 2) / (s - 1)) - 1);
    }
  }
}

TEST_CASE("bin_edges: distinct ones, thinned evenly, frequent ones kept") {
  CHECK(ood::bin_edges(Floats{3, 1, 2, 1, -0.f, 0}, 4) == Floats{0, 1, 2, 3});
  CHECK(ood::bin_edges(Floats{}, 4).empty());
  Floats samples(101);
  std::iota(samples.begin(), samples.end(), 0.f);
  CHECK(ood::bin_edges(samples, 5) == Floats{0, 25, 50, 75, 100});
  samples.insert(samples.end(), 40, 33.f);  // 41 of 141, more than a quarter
  const Floats edges = ood::bin_edges(samples, 5);
  CHECK(std::ranges::count(edges, 33.f) == 1);
  CHECK(std::ranges::adjacent_find(edges, std::greater_equal<>()) == edges.end());
}

TEST_CASE("bins: errors") {
  CHECK(error_of([] {
          ood::bin_counts(Floats{1, kNaN}, Floats{0});
        }) == "bin_counts: score 1 is NaN, expected a number");
  CHECK(error_of([] {
          ood::bin_counts(Floats{1, -kNaN}, Floats{0});
        }) == "bin_counts: score 1 is NaN, expected a number");
  CHECK(error_of([] {
          ood::bin_counts(Floats{1}, Floats{0, kNaN});
        }) == "bin_counts: edge 1 is NaN, expected a number");
  CHECK(error_of([] {
          ood::bin_counts(Floats{1}, Floats{0, 2, 1});
        }) == "bin_counts: edge 2 is 1 after 2, expected ascending numbers");
  CHECK(error_of([] {
          ood::bin_counts(Floats{1}, Floats{-0.f, 0});
        }) == "bin_counts: edge 1 is 0 after -0, expected ascending numbers");
  CHECK(error_of([] {
          ood::score_sample(Floats{1, 2, kNaN}, 2);
        }) == "score_sample: score 2 is NaN, expected a number");
  CHECK(error_of([] { ood::score_sample(Floats{1}, 1); }) ==
        "score_sample: most is 1, expected 2 or more");
  CHECK(error_of([] { ood::bin_edges(Floats{kNaN}, 2); }) ==
        "bin_edges: score 0 is NaN, expected a number");
  CHECK(error_of([] { ood::bin_edges(Floats{1}, 0); }) ==
        "bin_edges: most is 0, expected 2 or more");

  const auto metrics_error = [](const Counts& id, const Counts& ood) {
    return error_of([&] { ood::binned_metrics(id, ood); });
  };
  CHECK(metrics_error({}, {}) == "binned_metrics: id has 0 bins, expected an odd number");
  CHECK(metrics_error({1, 2}, {1, 2}) == "binned_metrics: id has 2 bins, expected an odd number");
  CHECK(metrics_error({1}, {1, 2, 3}) == "binned_metrics: ood has 3 bins, expected 1 as id has");
  CHECK(metrics_error({1, 0, 2}, {1, -1, 2}) ==
        "binned_metrics: ood has -1 scores in bin 1, expected 0 or more");
  CHECK(metrics_error({0, 0, 0}, {1, 1, 2}) ==
        "binned_metrics: id has 0 scores, expected 1 or more");
}

TEST_CASE("binned_metrics: by hand") {
  // open bins of 1 ID; 1 ID and 2 OOD; 1 OOD, with an edge between each two of them
  const BinnedMetrics all = ood::binned_metrics(Counts{0, 0, 1, 0, 1}, Counts{1, 0, 2, 0, 0});
  CHECK(all.bounds.low.auroc == doctest::Approx(4. / 6));
  CHECK(all.value.auroc == doctest::Approx(5. / 6));
  CHECK(all.bounds.high.auroc == 1);
  CHECK(all.bounds.low.fpr95 == 0);  // the second ID score before both of the bin's, or behind
  CHECK(all.bounds.high.fpr95 == doctest::Approx(2. / 3));
  CHECK(all.bounds.low.aupr_in == doctest::Approx((1 + 2. / 4) / 2));
  CHECK(all.bounds.high.aupr_in == 1);
}

TEST_CASE("binned_metrics: exact where all distinct scores are edges") {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    const auto size = [&] { return std::uniform_int_distribution<std::size_t>(1, 60)(random); };
    const Floats id = random_scores(random, size()), ood = random_scores(random, size());
    Floats all = id;
    all.insert(all.end(), ood.begin(), ood.end());
    const Floats edges = ood::bin_edges(all, 1000);
    const BinnedMetrics binned =
        ood::binned_metrics(ood::bin_counts(id, edges), ood::bin_counts(ood, edges));
    const Metrics exact = ood::compute_metrics(doubles(id), doubles(ood));
    for (const NamedMetric& metric : kMetrics) {
      CAPTURE(metric.name);
      CHECK(binned.value.*metric.member == exact.*metric.member);
      CHECK(binned.bounds.low.*metric.member == exact.*metric.member);
      CHECK(binned.bounds.high.*metric.member == exact.*metric.member);
    }
  }
}

TEST_CASE("binned_metrics: the metrics of the scores are within the bounds") {
  std::mt19937 random(6);
  for (int round = 0; round < 3000; ++round) {
    CAPTURE(round);
    const auto size = [&] { return std::uniform_int_distribution<std::size_t>(1, 60)(random); };
    const Floats id = random_scores(random, size()), ood = random_scores(random, size());
    Floats all = id;
    all.insert(all.end(), ood.begin(), ood.end());
    const Floats edges = round % 10 == 0 ? Floats{} : random_edges(random, all);
    check_within(ood::compute_metrics(doubles(id), doubles(ood)),
                 ood::binned_metrics(ood::bin_counts(id, edges), ood::bin_counts(ood, edges)));
  }
}

TEST_CASE(
    "binned_metrics: all orders and ties of an open bin are within the bounds, which are close") {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> few(0, 3);
  const Floats edges{0, 1};  // the bin in question lies between
  for (int round = 0; round < 250; ++round) {
    CAPTURE(round);
    const int p = few(random), n = few(random);
    Floats id, ood;
    for (const float known : {-1.f, 0.f, 1.f, 2.f}) {  // one score at most outside
      const bool one = known < 0 || known > 1;
      int of_id = few(random), of_ood = few(random);
      if (one) of_id = of_id % 2, of_ood = of_id == 1 ? 0 : of_ood % 2;
      id.insert(id.end(), static_cast<std::size_t>(of_id), known);
      ood.insert(ood.end(), static_cast<std::size_t>(of_ood), known);
    }
    if (id.size() + static_cast<std::size_t>(p) == 0 ||
        ood.size() + static_cast<std::size_t>(n) == 0)
      continue;
    Counts id_counts = ood::bin_counts(id, edges), ood_counts = ood::bin_counts(ood, edges);
    id_counts[2] = p;
    ood_counts[2] = n;
    const BinnedMetrics binned = ood::binned_metrics(id_counts, ood_counts);
    Metrics least, most;
    for (const NamedMetric& metric : kMetrics) least.*metric.member = 1;
    each_refinement(p, n, [&](const Floats& in, const Floats& out) {
      Values ids = doubles(id), oods = doubles(ood);
      ids.insert(ids.end(), in.begin(), in.end());
      oods.insert(oods.end(), out.begin(), out.end());
      const Metrics exact = ood::compute_metrics(ids, oods);
      check_within(exact, binned);
      for (const NamedMetric& metric : kMetrics) {
        const auto member = metric.member;
        least.*member = std::min(least.*member, exact.*member);
        most.*member = std::max(most.*member, exact.*member);
      }
    });
    const auto close = [](double bound, double reached, double slack) {
      return std::abs(bound - reached) <= slack;
    };
    for (const auto member : {&Metrics::auroc, &Metrics::fpr95, &Metrics::fpr95_ood}) {
      CHECK(close(binned.bounds.low.*member, least.*member, kRounding));
      CHECK(close(binned.bounds.high.*member, most.*member, kRounding));
    }
    for (const auto member : {&Metrics::aupr_in, &Metrics::aupr_out}) {
      CHECK(close(binned.bounds.low.*member, least.*member, 0.01));
      CHECK(close(binned.bounds.high.*member, most.*member, kRounding));
    }
    for (const auto member : {&Metrics::aupr_in_trapezoid, &Metrics::aupr_out_trapezoid}) {
      CHECK(close(binned.bounds.low.*member, least.*member, kRounding));
      CHECK(close(binned.bounds.high.*member, most.*member, 0.25));
    }
  }
}

TEST_CASE("binned_metrics: all scores in one bin say nothing of AUROC") {
  const BinnedMetrics all = ood::binned_metrics(Counts{1000}, Counts{500});
  CHECK(all.bounds.low.auroc == 0);
  CHECK(all.value.auroc == 0.5);
  CHECK(all.bounds.high.auroc == 1);
  CHECK(all.bounds.low.fpr95 == 0);
  CHECK(all.bounds.high.fpr95 == 1);
  CHECK(all.bounds.high.aupr_in == 1);
  // all negatives first: the sum of j / (j + 500) / 1000
  double sum = 0;
  for (int j = 1; j <= 1000; ++j) sum += j / (j + 500.) / 1000;
  CHECK(all.bounds.low.aupr_in == doctest::Approx(sum).epsilon(1e-7));
  CHECK(all.bounds.low.aupr_in <= sum);
}

TEST_CASE("binned_metrics: counts whose pairs are more than 64 bits hold") {
  const std::int64_t many = std::int64_t{1} << 40;
  const BinnedMetrics all =
      ood::binned_metrics(Counts{0, many, 0, many, 0}, Counts{0, 2 * many, 0, 2 * many, 0});
  CHECK(all.value.auroc == 0.5);
  const BinnedMetrics better =
      ood::binned_metrics(Counts{0, 0, 0, many, 0}, Counts{0, 3 * many, 0, many, 0});
  CHECK(better.value.auroc == 0.875);
  CHECK(better.bounds.low.auroc == 0.875);
}

TEST_CASE("intervals of counts: those of scores that are equal within a bin") {
  std::mt19937 random(8);
  for (int round = 0; round < 100; ++round) {
    const auto size = [&] { return std::uniform_int_distribution<std::size_t>(2, 80)(random); };
    const Floats id = random_scores(random, size());
    const Floats edges = random_edges(random, id);
    const auto by_bin = [&](const Floats& scores) {
      Values bins;
      for (const float score : scores)
        bins.push_back(static_cast<double>(bin_by_edges(score, edges)));
      return bins;
    };
    const auto check_close = [](const Interval& got, const Interval& want) {
      CHECK(std::abs(got.value - want.value) <= kRounding);
      CHECK(std::abs(got.low - want.low) <= kRounding);
      CHECK(std::abs(got.high - want.high) <= kRounding);
    };
    const Counts id_counts = ood::bin_counts(id, edges);
    ood::MeanAuroc of_counts, of_scores;
    for (int set = 0; set < 3; ++set) {
      const Floats ood = random_scores(random, size());
      const Counts counts = ood::bin_counts(ood, edges);
      const Interval got = ood::auroc_interval(id_counts, counts, 0.9);
      check_close(got, ood::auroc_interval(by_bin(id), by_bin(ood), 0.9));
      CHECK(std::abs(got.value - ood::binned_metrics(id_counts, counts).value.auroc) <= kRounding);
      of_counts.add(id_counts, counts);
      of_scores.add(by_bin(id), by_bin(ood));
      check_close(of_counts.interval(), of_scores.interval());
    }
  }
}

TEST_CASE("intervals of counts: errors") {
  const Counts id{0, 2, 0}, ood{1, 0, 2}, one{0, 1, 0};
  CHECK(error_of([&] { ood::auroc_interval(id, one); }) ==
        "auroc_interval: ood has 1 scores, expected 2 or more");
  CHECK(error_of([&] { ood::auroc_interval(id, ood, 1); }) ==
        "auroc_interval: level is 1, expected a share in (0, 1)");
  ood::MeanAuroc mean;
  mean.add(id, ood);
  CHECK(error_of([&] {
          mean.add(Counts{1, 1, 0}, ood);
        }) == "MeanAuroc.add: id has other scores, expected those of the first set");
  ood::MeanAuroc of_scores;
  of_scores.add(Values{1, 2, 3}, Values{1, 2});
  CHECK(error_of([&] { of_scores.add(id, ood); }) ==
        "MeanAuroc.add: id has 2 scores, expected 3 as in the first set");
}
