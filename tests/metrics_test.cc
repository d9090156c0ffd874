#include "ood/metrics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace {

using ood::Metrics;
using ood::Scores;
using Values = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// An absolute bound: all metrics lie in [0, 1].
void check_close(double got, double want, double bound = 1e-12) {
  CAPTURE(got);
  CAPTURE(want);
  CHECK(std::abs(got - want) <= bound);
}

void check_close(const Metrics& got, const Metrics& want, double bound = 1e-12) {
  check_close(got.auroc, want.auroc, bound);
  check_close(got.fpr95, want.fpr95, bound);
  check_close(got.fpr95_ood, want.fpr95_ood, bound);
  check_close(got.aupr_in, want.aupr_in, bound);
  check_close(got.aupr_out, want.aupr_out, bound);
  check_close(got.aupr_in_trapezoid, want.aupr_in_trapezoid, bound);
  check_close(got.aupr_out_trapezoid, want.aupr_out_trapezoid, bound);
}

/// The functions for one metric each give the very same numbers as compute_metrics.
void check_consistent(Scores id, Scores ood) {
  const Metrics all = ood::compute_metrics(id, ood);
  CHECK(ood::auroc(id, ood) == all.auroc);
  CHECK(ood::fpr_at_tpr(id, ood) == all.fpr95);
  CHECK(ood::fpr_at_tpr_ood(id, ood) == all.fpr95_ood);
  CHECK(ood::aupr_in(id, ood) == all.aupr_in);
  CHECK(ood::aupr_out(id, ood) == all.aupr_out);
  CHECK(ood::aupr_in_trapezoid(id, ood) == all.aupr_in_trapezoid);
  CHECK(ood::aupr_out_trapezoid(id, ood) == all.aupr_out_trapezoid);
}

Values random_scores(std::mt19937& random, std::size_t count, int distinct) {
  std::uniform_int_distribution<int> pick(0, distinct - 1);
  Values scores(count);
  std::ranges::generate(scores, [&] { return 0.25 * pick(random); });
  return scores;
}

double share(Scores scores, const auto& accepted) {
  return static_cast<double>(std::ranges::count_if(scores, accepted)) /
         static_cast<double>(scores.size());
}

/// The definitions, one pair or one threshold at a time: O(n m).
double auroc_by_pairs(Scores id, Scores ood) {
  double wins = 0;
  for (const double i : id)
    for (const double o : ood) wins += i > o ? 1 : i == o ? 0.5 : 0;
  return wins / static_cast<double>(id.size() * ood.size());
}

double fpr_by_thresholds(Scores id, Scores ood, double tpr) {
  double best = -kInf;
  for (const double threshold : id)
    if (share(id, [&](double s) { return s >= threshold; }) >= tpr)
      best = std::max(best, threshold);
  return share(ood, [&](double s) { return s >= best; });
}

/// Every threshold's own precision, weighted by the share of ID samples at exactly that score.
double average_precision_by_samples(Scores id, Scores ood) {
  double sum = 0;
  for (const double threshold : id) {
    const auto accepted = [&](double s) { return s >= threshold; };
    const auto from_id = static_cast<double>(std::ranges::count_if(id, accepted));
    const auto from_ood = static_cast<double>(std::ranges::count_if(ood, accepted));
    sum += from_id / (from_id + from_ood);
  }
  return sum / static_cast<double>(id.size());
}

/// Strictly monotone and exact for small multiples of 1/4, so that ties stay ties.
Values transformed(Scores scores, double (*transform)(double)) {
  Values result(scores.size());
  std::ranges::transform(scores, result.begin(), transform);
  return result;
}

double parse_score(const nlohmann::json& value) {
  if (value == "inf") return kInf;
  if (value == "-inf") return -kInf;
  return value.get<double>();
}

Values parse_scores(const nlohmann::json& array) {
  Values scores;
  for (const auto& value : array) scores.push_back(parse_score(value));
  return scores;
}

}  // namespace

TEST_CASE("metrics: without ties, by hand") {
  // Score  5  4   3  2   1
  // of     ID ID  O  ID  O
  const Values id{2, 5, 4}, ood{1, 3};
  // auroc      5 and 4 beat both, 2 beats 1: (2 + 2 + 1) of 6 pairs
  // fpr95      3 of 3 ID need s >= 2, which accepts OOD {3}: 1/2
  // fpr95_ood  2 of 2 OOD need s <= 3, which rejects ID {2}: 1/3
  // in         recall 1/3, 2/3, 2/3, 1, 1 at precision 1, 1, 2/3, 3/4, 3/5:
  //            1/3 + 1/3 + 0 + 1/3 * 3/4 + 0 = 11/12
  //   trapezoid  1/3 * (1 + 1)/2 + 1/3 * (1 + 1)/2 + 0 + 1/3 * (2/3 + 3/4)/2 + 0 = 65/72
  // out        recall 1/2, 1/2, 1, 1, 1 at precision 1, 1/2, 2/3, 1/2, 2/5: 1/2 + 1/2 * 2/3 = 5/6
  //   trapezoid  1/2 * (1 + 1)/2 + 0 + 1/2 * (1/2 + 2/3)/2 = 19/24
  check_close(ood::compute_metrics(id, ood), {.auroc = 5. / 6,
                                              .fpr95 = 1. / 2,
                                              .fpr95_ood = 1. / 3,
                                              .aupr_in = 11. / 12,
                                              .aupr_out = 5. / 6,
                                              .aupr_in_trapezoid = 65. / 72,
                                              .aupr_out_trapezoid = 19. / 24});
  check_consistent(id, ood);
}

TEST_CASE("metrics: ties within and across the arrays, by hand") {
  // Score  2          1             0
  // of     ID ID O    ID ID O O O   ID O
  const Values id{2, 1, 0, 2, 1}, ood{1, 0, 1, 2, 1};
  // auroc      a 2 wins 4 and ties 1: 4.5 each; a 1 wins 1 and ties 3: 2.5 each; the 0 ties 1: 0.5
  //            (2 * 4.5 + 2 * 2.5 + 0.5) / 25 = 14.5 / 25
  // fpr95      5 of 5 ID need s >= 0: all OOD, 1.  fpr95_ood  5 of 5 OOD need s <= 2: all ID, 1
  // in         recall 2/5, 4/5, 1 at precision 2/3, 4/8, 5/10:
  //            2/5 * 2/3 + 2/5 * 1/2 + 1/5 * 1/2 = 4/15 + 3/10 = 17/30
  //   trapezoid  2/5 * (1 + 2/3)/2 + 2/5 * (2/3 + 1/2)/2 + 1/5 * 1/2 = 1/3 + 7/30 + 1/10 = 2/3
  // out        recall 1/5, 4/5, 1 at precision 1/2, 4/7, 5/10:
  //            1/5 * 1/2 + 3/5 * 4/7 + 1/5 * 1/2 = 1/5 + 12/35 = 19/35
  //   trapezoid  1/5 * (1 + 1/2)/2 + 3/5 * (1/2 + 4/7)/2 + 1/5 * (4/7 + 1/2)/2
  //            = 3/20 + 9/28 + 3/28 = 81/140
  check_close(ood::compute_metrics(id, ood), {.auroc = 14.5 / 25,
                                              .fpr95 = 1,
                                              .fpr95_ood = 1,
                                              .aupr_in = 17. / 30,
                                              .aupr_out = 19. / 35,
                                              .aupr_in_trapezoid = 2. / 3,
                                              .aupr_out_trapezoid = 81. / 140});
  check_consistent(id, ood);
}

TEST_CASE("metrics: infinite scores rank as they should, and tie with each other") {
  const Values id{kInf, kInf, 0, -kInf}, ood{kInf, -kInf};
  // auroc  each inf wins 1, ties 1: 1.5;  0 wins 1;  -inf ties 1: 0.5;  (1.5 + 1.5 + 1 + 0.5) / 8
  CHECK(ood::auroc(id, ood) == 4.5 / 8);
  // 3 of 4 ID are at s >= 0, which accepts the OOD inf alone
  CHECK(ood::fpr_at_tpr(id, ood, 0.75) == 0.5);
  CHECK(ood::fpr_at_tpr(id, ood, 0.76) == 1);
  // -0.0 and 0.0 are equal scores
  CHECK(ood::auroc(Values{0.0}, Values{-0.0}) == 0.5);
}

TEST_CASE("fpr_at_tpr: the rate is reached exactly, and no later") {
  // 19 of 20 ID scores are 2: 19 / 20 >= 0.95 at threshold 2, which accepts 1 OOD sample of 4.
  Values id(20, 2.0);
  id[7] = 0;
  const Values ood{3, 1, 1, 0};
  CHECK(ood::fpr_at_tpr(id, ood) == 0.25);
  CHECK(ood::fpr_at_tpr(id, ood, std::nextafter(0.95, 1)) == 1);
  CHECK(ood::fpr_at_tpr(id, ood, 1e-9) == 0.25);
  CHECK(ood::fpr_at_tpr(id, ood, 1) == 1);
  // The other convention: s <= 1 rejects 3 of 4 OOD and one ID; all four need s <= 3, so all ID.
  CHECK(ood::fpr_at_tpr_ood(id, ood, 0.75) == 1. / 20);
  CHECK(ood::fpr_at_tpr_ood(id, ood) == 1);

  // No share k / n misses its own rate: k / n in float64 is the decision.
  Values ascending;
  for (int n = 1; n <= 200; ++n) {
    ascending.push_back(n);
    for (int k = 1; k <= n; ++k)
      CHECK_MESSAGE(ood::fpr_at_tpr(ascending, ascending, static_cast<double>(k) / n) ==
                        static_cast<double>(k) / n,
                    k << " of " << n);
  }
}

TEST_CASE("metrics: separated, reversed and indistinguishable scores") {
  const Values high{3, 4, 5}, low{0, 1};
  check_close(ood::compute_metrics(high, low), {.auroc = 1,
                                                .fpr95 = 0,
                                                .fpr95_ood = 0,
                                                .aupr_in = 1,
                                                .aupr_out = 1,
                                                .aupr_in_trapezoid = 1,
                                                .aupr_out_trapezoid = 1});
  CHECK(ood::auroc(low, high) == 0);
  CHECK(ood::fpr_at_tpr(low, high) == 1);
  CHECK(ood::fpr_at_tpr_ood(low, high) == 1);
  // One threshold accepts all: precision is the share of ID, 3/4; the trapezoid starts from (0, 1).
  const Values threes(3, 7.0), one(1, 7.0);
  check_close(ood::compute_metrics(threes, one), {.auroc = 0.5,
                                                  .fpr95 = 1,
                                                  .fpr95_ood = 1,
                                                  .aupr_in = 3. / 4,
                                                  .aupr_out = 1. / 4,
                                                  .aupr_in_trapezoid = 7. / 8,
                                                  .aupr_out_trapezoid = 5. / 8});
}

TEST_CASE("metrics: agree with scikit-learn") {
  std::ifstream file(OOD_SOURCE_DIR "/tests/reference/metrics.json");
  REQUIRE(file);
  const auto cases = nlohmann::json::parse(file).at("cases");
  REQUIRE(!cases.empty());
  for (const auto& expected : cases) {
    const auto name = expected.at("name").get<std::string>();
    CAPTURE(name);
    const Values id = parse_scores(expected.at("id")), ood = parse_scores(expected.at("ood"));
    const auto value = [&](const char* key) { return expected.at(key).get<double>(); };
    check_close(ood::compute_metrics(id, ood), {.auroc = value("auroc"),
                                                .fpr95 = value("fpr95"),
                                                .fpr95_ood = value("fpr95_ood"),
                                                .aupr_in = value("aupr_in"),
                                                .aupr_out = value("aupr_out"),
                                                .aupr_in_trapezoid = value("aupr_in_trapezoid"),
                                                .aupr_out_trapezoid = value("aupr_out_trapezoid")});
    check_consistent(id, ood);
  }
}

TEST_CASE("metrics: agree with counting every pair and threshold of random scores with ties") {
  std::mt19937 random(20);
  for (const int distinct : {1, 2, 5, 40, 100000}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      CAPTURE(distinct);
      CAPTURE(repeat);
      const auto id = random_scores(random, 1 + random() % 90, distinct);
      const auto ood = random_scores(random, 1 + random() % 90, distinct);
      const auto negate = [](double score) { return -score; };
      const auto negated_id = transformed(id, negate), negated_ood = transformed(ood, negate);
      check_close(ood::auroc(id, ood), auroc_by_pairs(id, ood));
      check_close(ood::aupr_in(id, ood), average_precision_by_samples(id, ood));
      check_close(ood::aupr_out(id, ood), average_precision_by_samples(negated_ood, negated_id));
      for (const double tpr : {0.05, 0.5, 0.9, 0.95, 1.0}) {
        CHECK(ood::fpr_at_tpr(id, ood, tpr) == fpr_by_thresholds(id, ood, tpr));
        CHECK(ood::fpr_at_tpr_ood(id, ood, tpr) == fpr_by_thresholds(negated_ood, negated_id, tpr));
      }
    }
  }
}

TEST_CASE("metrics: exchanging the arrays and negating") {
  std::mt19937 random(21);
  const auto id = random_scores(random, 300, 30), ood = random_scores(random, 200, 25);
  const auto negate = [](double score) { return -score; };
  const auto negated_id = transformed(id, negate), negated_ood = transformed(ood, negate);
  check_close(ood::auroc(id, ood), 1 - ood::auroc(ood, id), 1e-15);
  check_close(ood::auroc(id, ood), ood::auroc(negated_ood, negated_id), 0);
  check_close(ood::fpr_at_tpr_ood(id, ood), ood::fpr_at_tpr(negated_ood, negated_id), 0);
  check_close(ood::aupr_out(id, ood), ood::aupr_in(negated_ood, negated_id), 0);
  check_close(ood::aupr_out_trapezoid(id, ood), ood::aupr_in_trapezoid(negated_ood, negated_id), 0);
}

TEST_CASE("metrics: ranks alone count") {
  std::mt19937 random(22);
  auto id = random_scores(random, 300, 60), ood = random_scores(random, 200, 50);
  const Metrics metrics = ood::compute_metrics(id, ood);
  double (*transforms[])(double) = {
      [](double s) { return 8 * s - 3; },
      [](double s) { return s * s * s; },
      [](double s) { return std::exp(s); },
      [](double s) { return std::ldexp(s, -1070); },          // subnormal
      [](double s) { return s == 0 ? -kInf : std::log(s); },  // the least score is infinite
  };
  for (const auto transform : transforms)
    check_close(ood::compute_metrics(transformed(id, transform), transformed(ood, transform)),
                metrics, 0);
  std::ranges::shuffle(id, random);
  std::ranges::shuffle(ood, random);
  check_close(ood::compute_metrics(id, ood), metrics, 0);
}

TEST_CASE("metrics: errors name the metric, the array and the place") {
  const Values good{0, 1}, none;
  Values bad(20, 1.0);
  bad[17] = kNaN;
  CHECK_THROWS_WITH_AS(ood::auroc(bad, good), "auroc: id score 17 is NaN, expected a number",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::auroc(good, bad), "auroc: ood score 17 is NaN, expected a number",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::aupr_in(none, good), "aupr_in: id has 0 scores, expected 1 or more",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::compute_metrics(good, none),
                       "compute_metrics: ood has 0 scores, expected 1 or more",
                       std::invalid_argument);

  double (*areas[])(Scores, Scores) = {ood::auroc, ood::aupr_in, ood::aupr_out,
                                       ood::aupr_in_trapezoid, ood::aupr_out_trapezoid};
  for (const auto area : areas) {
    CHECK_THROWS_AS(area(bad, good), std::invalid_argument);
    CHECK_THROWS_AS(area(good, none), std::invalid_argument);
  }

  CHECK_THROWS_WITH_AS(ood::fpr_at_tpr(good, good, 1.5),
                       "fpr_at_tpr: tpr is 1.5, expected a rate in (0, 1]", std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::fpr_at_tpr_ood(good, good, 0),
                       "fpr_at_tpr_ood: tpr is 0, expected a rate in (0, 1]",
                       std::invalid_argument);
  CHECK_THROWS_AS(ood::fpr_at_tpr(good, good, kNaN), std::invalid_argument);
  CHECK_THROWS_AS(ood::fpr_at_tpr(good, good, -0.1), std::invalid_argument);
  CHECK_THROWS_AS(ood::fpr_at_tpr(bad, good), std::invalid_argument);
  CHECK_THROWS_AS(ood::fpr_at_tpr_ood(good, bad), std::invalid_argument);
}

TEST_CASE("accuracy: the first of equal logits is the prediction") {
  ood::Matrix logits(4, 3);
  logits << 1, 2, 0,  // 1
      5, 5, 4,        // 0, the first of two
      -3, -2, -1,     // 2
      0, 0, 0;        // 0
  const std::vector<std::int64_t> labels{1, 1, 2, 0};
  CHECK(ood::accuracy(logits, labels) == 3. / 4);

  // Columns 0 and 1 of the same rows: predictions 1, 0, 1, 0
  const ood::MatrixView left(logits.data(), 4, 2, 3);
  CHECK(ood::accuracy(left, labels) == 2. / 4);

  const float inf = std::numeric_limits<float>::infinity();
  logits << inf, inf, inf, -inf, -inf, -inf, -inf, inf, 0, 0, -inf, inf;  // 0, 0, 1, 2
  CHECK(ood::accuracy(logits, std::vector<std::int64_t>{0, 0, 1, 2}) == 1);
  // A label outside the columns is no prediction's
  CHECK(ood::accuracy(logits, std::vector<std::int64_t>{-1, 3, 1, 2}) == 0.5);
}

TEST_CASE("accuracy: errors") {
  ood::Matrix logits = ood::Matrix::Zero(3, 2);
  const std::vector<std::int64_t> labels{0, 1, 0};
  CHECK_THROWS_WITH_AS(ood::accuracy(logits.topRows(0).eval(), {}),
                       "accuracy: logits has 0 rows, expected 1 or more", std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::accuracy(ood::Matrix(3, 0), labels),
                       "accuracy: logits has 0 columns, expected 1 or more", std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::accuracy(logits, ood::Labels(labels).first(2)),
                       "accuracy: labels has 2 entries, expected 3 as logits has rows",
                       std::invalid_argument);
  logits(1, 1) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH_AS(ood::accuracy(logits, labels),
                       "accuracy: logits row 1 has NaN, expected numbers", std::invalid_argument);
}
