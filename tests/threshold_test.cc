#include "ood/threshold.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "ood/detectors/mahalanobis.h"
#include "ood/serialize.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> normal_scores(std::size_t count, std::uint32_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> scores(count);
  for (double& score : scores) score = normal(random);
  return scores;
}

/// The definition, word for word.
double p_by_counting(const std::vector<double>& calibration, double score) {
  const auto at_most = std::ranges::count_if(calibration, [&](double x) { return x <= score; });
  return (1.0 + static_cast<double>(at_most)) / (static_cast<double>(calibration.size()) + 1.0);
}

/// Half the width that a share of `count` draws with this probability keeps within, but for one time in
/// about two thousand.
double noise(double probability, double count) {
  return 3.5 * std::sqrt(probability * (1 - probability) / count);
}

}  // namespace

TEST_CASE("threshold_at_tpr: the highest score that accepts enough") {
  const std::vector<double> ten = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
  CHECK(threshold_at_tpr(ten, 1) == 1);
  CHECK(threshold_at_tpr(ten, 0.9) == 1);   // 2 accepts 8 of 10
  CHECK(threshold_at_tpr(ten, 0.8) == 2);   // 8 of 10
  CHECK(threshold_at_tpr(ten, 0.75) == 2);  // 3 accepts 7
  CHECK(threshold_at_tpr(ten, 0.5) == 4);
  CHECK(threshold_at_tpr(ten, 0.1) == 9);
  CHECK(threshold_at_tpr(ten, 1e-9) == 9);
  const std::vector<double> equal(5, 2.0), ends = {-kInfinity, kInfinity};
  CHECK(threshold_at_tpr(equal, 0.95) == 2);
  CHECK(threshold_at_tpr(ends, 0.95) == -kInfinity);
  CHECK(threshold_at_tpr(ends, 0.5) == kInfinity);
}

TEST_CASE("threshold_at_tpr: it is the one of fpr_at_tpr") {
  const auto id = normal_scores(777, 1), ood = normal_scores(500, 2);
  for (const double tpr : {0.01, 0.3, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0}) {
    CAPTURE(tpr);
    const double threshold = threshold_at_tpr(id, tpr);
    const auto accepted = std::ranges::count_if(ood, [&](double x) { return x >= threshold; });
    CHECK(static_cast<double>(accepted) / 500.0 == fpr_at_tpr(id, ood, tpr));
  }
}

TEST_CASE("threshold_at_tpr: errors") {
  const std::vector<double> some = {1, 2}, none, bad = {1, kNan};
  CHECK_THROWS_AS(threshold_at_tpr(none, 0.5), std::invalid_argument);
  CHECK_THROWS_WITH(threshold_at_tpr(bad, 0.5),
                    "threshold_at_tpr: id score 1 is NaN, expected a number");
  for (const double tpr : {0.0, -0.1, 1.1, kNan})
    CHECK_THROWS_WITH(threshold_at_tpr(some, tpr), doctest::Contains("expected a rate in (0, 1]"));
}

TEST_CASE("calibration: p-values by hand, with ties") {
  const Calibration calibration(std::vector<double>{2, 1, 2, 4});
  CHECK(calibration.rows() == 4);
  CHECK(calibration.p_value(0.5) == 0.2);
  CHECK(calibration.p_value(1) == 0.4);
  CHECK(calibration.p_value(1.5) == 0.4);
  CHECK(calibration.p_value(2) == 0.8);
  CHECK(calibration.p_value(3.99) == 0.8);
  CHECK(calibration.p_value(4) == 1);
  CHECK(calibration.p_value(kInfinity) == 1);
  CHECK(calibration.p_value(-kInfinity) == 0.2);
  CHECK(std::isnan(calibration.p_value(kNan)));
  CHECK(calibration.threshold(0.1) == -kInfinity);  // no p-value is 0.1 or less
  CHECK(calibration.threshold(0.2) == 1);
  CHECK(calibration.threshold(0.39) == 1);
  CHECK(calibration.threshold(0.4) == 2);
  CHECK(calibration.threshold(0.8) == 4);
  CHECK_THROWS_AS(calibration.threshold(1), std::invalid_argument);
  CHECK_THROWS_AS(calibration.threshold(-0.1), std::invalid_argument);
  CHECK_THROWS_AS(calibration.threshold(kNan), std::invalid_argument);
}

TEST_CASE(
    "calibration: p-values are the definition's, and the threshold is where they pass alpha") {
  for (const std::size_t count : std::vector<std::size_t>{1, 2, 19, 20, 99, 500}) {
    auto scores = normal_scores(count, static_cast<std::uint32_t>(count));
    for (double& score : scores) score = std::round(score * 20) / 20;  // ties
    const Calibration calibration(scores);
    auto queries = normal_scores(300, 5);
    queries.insert(queries.end(), scores.begin(), scores.end());
    for (const double query : queries)
      CHECK(calibration.p_value(query) == p_by_counting(scores, query));
    for (const double alpha : {0.0, 0.01, 0.05, 0.1, 0.5, 0.9}) {
      const double threshold = calibration.threshold(alpha);
      for (const double query : queries)
        CHECK((query >= threshold) == (p_by_counting(scores, query) > alpha));
    }
  }
}

TEST_CASE("calibration: more rows than are kept make p-values larger by less than 1 / 65,536") {
  const auto scores = normal_scores(300'001, 3);
  const Calibration calibration(scores);
  CHECK(calibration.rows() == 300'001);
  CHECK(std::ssize(calibration.all().kept()) == ScoreSample::kMost);
  const auto [least, most] = std::ranges::minmax(scores);
  CHECK(calibration.all().kept().front() == least);
  CHECK(calibration.all().kept().back() == most);
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / 300'001.0;
  CHECK(calibration.all().mean() == doctest::Approx(mean).epsilon(1e-14));
  CHECK(calibration.all().variance() == doctest::Approx(1).epsilon(0.01));
  auto sorted = scores;
  std::ranges::sort(sorted);
  bool larger = false;
  for (const double query : normal_scores(5'000, 4)) {
    const auto at_most = std::ranges::upper_bound(sorted, query) - sorted.begin();
    CHECK(calibration.all().at_most_low(query) <= at_most);
    CHECK(calibration.all().at_most_high(query) >= at_most);
    const double exact = (1.0 + static_cast<double>(at_most)) / 300'002.0;
    const double p = calibration.p_value(query);
    CHECK(p >= exact);
    CHECK(p - exact < 1.0 / 65'536);
    larger = larger || p > exact;
  }
  CHECK(larger);
  for (const double alpha : {0.0001, 0.01, 0.05}) {
    const double threshold = calibration.threshold(alpha);
    CHECK(calibration.p_value(threshold) > alpha);
    CHECK(calibration.p_value(std::nextafter(threshold, -kInfinity)) <= alpha);
  }
  // as many as are kept, and one more
  for (const Index rows : {ScoreSample::kMost, ScoreSample::kMost + 1}) {
    const ScoreSample sample(Scores(scores).first(static_cast<std::size_t>(rows)));
    CHECK(std::ssize(sample.kept()) == ScoreSample::kMost);
    CHECK(sample.at_most_low(sample.kept().back()) == rows);
    CHECK(sample.at_most_high(sample.kept().back()) == rows);
  }
}

TEST_CASE("calibration: P(p <= alpha) <= alpha for ID rows, and no less than it must be") {
  // The share of rejected rows over draws of calibration rows and one further row. Of scores without ties it
  // is floor(alpha (n + 1)) / (n + 1): alpha itself for n = 99.
  constexpr int kDraws = 40'000;
  constexpr std::array kAlphas = {0.01, 0.05, 0.1};
  for (const bool ties : {false, true}) {
    std::array<int, 3> rejected{};
    std::mt19937_64 random(11);
    std::normal_distribution<double> normal;
    std::vector<double> scores(100);
    for (int draw = 0; draw < kDraws; ++draw) {
      for (double& score : scores) {
        score = normal(random);
        if (ties) score = std::round(2 * score);
      }
      const Calibration calibration(Scores(scores).first(99));
      const double p = calibration.p_value(scores.back());
      for (std::size_t a = 0; a < kAlphas.size(); ++a) rejected[a] += p <= kAlphas[a] ? 1 : 0;
    }
    for (std::size_t a = 0; a < kAlphas.size(); ++a) {
      const double share = rejected[a] / static_cast<double>(kDraws);
      CAPTURE(kAlphas[a]);
      CAPTURE(ties);
      CAPTURE(share);
      CHECK(share <= kAlphas[a] + noise(kAlphas[a], kDraws));
      if (!ties) CHECK(share >= kAlphas[a] - noise(kAlphas[a], kDraws));
    }
  }
}

TEST_CASE("calibration: the guarantee holds for rows that a detector scores") {
  // one fit; then rows of the same distribution, in turns of 200 to calibrate and 50 to decide on
  const auto train = test::make_synthetic(400, 6, 3, 21);
  Mahalanobis detector;
  MemorySource source(train.batch(), nullptr);
  detector.fit(source);
  constexpr Index kTurns = 600, kCalibrate = 200, kDecide = 50;
  constexpr std::array kAlphas = {0.01, 0.05, 0.1};
  // classes by chance, not in turns: rows are then independent
  std::mt19937 random(5);
  std::array<double, 3> rejected{};
  for (Index turn = 0; turn < kTurns; ++turn) {
    const auto rows =
        test::make_synthetic(kCalibrate + kDecide, 6, 3, static_cast<std::uint32_t>(1'000 + turn));
    std::vector<Index> order(kCalibrate + kDecide);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::shuffle(order, random);
    const auto all = detector.score(rows.batch());
    std::vector<double> scores;
    for (const Index i : order)
      scores.push_back(static_cast<double>(all[static_cast<std::size_t>(i)]));
    const Calibration calibration(Scores(scores).first(kCalibrate));
    for (const double score : Scores(scores).subspan(kCalibrate))
      for (std::size_t a = 0; a < kAlphas.size(); ++a)
        rejected[a] += calibration.p_value(score) <= kAlphas[a] ? 1 : 0;
  }
  for (std::size_t a = 0; a < kAlphas.size(); ++a) {
    // rows of one turn share their calibration: the share rejected there has variance alpha (1 - alpha) /
    // (n + 2) beside that of the draws
    const double alpha = kAlphas[a];
    const double spread =
        std::sqrt(alpha * (1 - alpha) * (1.0 / (kTurns * kDecide) + 1.0 / (kTurns * 202.0)));
    const double share = rejected[a] / static_cast<double>(kTurns * kDecide);
    CAPTURE(alpha);
    CAPTURE(share);
    CHECK(share <= alpha + 3.5 * spread);
    CHECK(share >= alpha - 1.0 / 201 - 3.5 * spread);
  }
}

TEST_CASE("calibration by class: each class has its own scores") {
  const std::vector<double> scores = {1, 2, 3, 10, 20, 30, 40};
  const std::vector<Index> predicted = {0, 0, 0, 2, 2, 2, 2};
  const Calibration calibration(scores, predicted, 3);
  CHECK(calibration.by_class());
  CHECK(calibration.classes() == 3);
  CHECK(calibration.p_value(2, 0) == 0.75);
  CHECK(calibration.p_value(2, 2) == 0.2);
  CHECK(calibration.p_value(-5, 1) == 1);  // no rows to compare with
  CHECK(calibration.threshold(0.25, 0) == 1);
  CHECK(calibration.threshold(0.2, 2) == 10);
  CHECK(calibration.threshold(0.9, 1) == -kInfinity);
  CHECK_THROWS_AS(calibration.p_value(1, 3), std::invalid_argument);
  CHECK_THROWS_AS(calibration.p_value(1, -1), std::invalid_argument);

  Batch batch;
  Matrix logits(4, 3);
  logits << 5, 1, 5,  // the first of equals
      0, 1, 2,        //
      0, 7, 2,        //
      0, std::nanf(""), 2;
  batch.logits = logits;
  std::vector<double> p(4);
  calibration.p_values(batch, std::vector<float>{2, 2, 2, 2}, p);
  CHECK(p[0] == 0.75);
  CHECK(p[1] == 0.2);
  CHECK(p[2] == 1);
  CHECK(std::isnan(p[3]));
  CHECK_THROWS_WITH(calibration.p_values(Batch(), std::vector<float>{2, 2, 2, 2}, p),
                    doctest::Contains("no logits"));
  logits = Matrix::Zero(4, 2);
  batch.logits = logits;
  CHECK_THROWS_WITH(calibration.p_values(batch, std::vector<float>{2, 2, 2, 2}, p),
                    "p_values: logits has 2 columns, expected 3");
  std::vector<double> wrong(3);
  CHECK_THROWS_AS(calibration.p_values(batch, std::vector<float>{2, 2, 2, 2}, wrong),
                  std::invalid_argument);
}

TEST_CASE("calibration by class: the guarantee holds in each class") {
  // scores of the classes differ so much that without classes one of them is always rejected first
  constexpr int kDraws = 20'000;
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  std::array<double, 2> by_class{}, pooled{}, rows{};
  std::vector<double> scores(101);
  std::vector<Index> predicted(101);
  for (int draw = 0; draw < kDraws; ++draw) {
    for (std::size_t i = 0; i < scores.size(); ++i) {
      predicted[i] = static_cast<Index>(random() % 2);
      scores[i] = normal(random) + (predicted[i] == 0 ? 0.0 : 4.0);
    }
    const Scores known = Scores(scores).first(100);
    const Calibration classes(known, std::span<const Index>(predicted).first(100), 2), all(known);
    const auto own = static_cast<std::size_t>(predicted.back());
    rows[own] += 1;
    by_class[own] += classes.p_value(scores.back(), predicted.back()) <= 0.1 ? 1 : 0;
    pooled[own] += all.p_value(scores.back()) <= 0.1 ? 1 : 0;
  }
  for (std::size_t c = 0; c < 2; ++c) {
    CHECK(by_class[c] / rows[c] <= 0.1 + noise(0.1, rows[c]));
    CHECK(by_class[c] / rows[c] >= 0.1 - 1.0 / 40 - noise(0.1, rows[c]));  // of about 50 rows
  }
  CHECK(pooled[0] / rows[0] > 0.15);  // what the option is for
}

TEST_CASE("calibration: errors, and what is loaded is checked") {
  const std::vector<double> some = {1, 2, 3}, bad = {1, kNan};
  const std::vector<Index> classes = {0, 0, 1}, wrong = {0, 1, 2}, few = {0};
  CHECK_THROWS_AS(Calibration(std::vector<double>()), std::invalid_argument);
  CHECK_THROWS_WITH(Calibration(Scores(bad)), "calibration: id score 1 is NaN, expected a number");
  CHECK_THROWS_AS(Calibration(some, wrong, 2), std::invalid_argument);
  CHECK_THROWS_AS(Calibration(some, few, 2), std::invalid_argument);
  CHECK_THROWS_AS(Calibration(some, classes, 0), std::invalid_argument);

  for (const Calibration& saved :
       {Calibration(some), Calibration(some, classes, 2), Calibration()}) {
    auto loaded = fields_from_bytes<Calibration>(fields_to_bytes(saved));
    loaded.finish_loading();
    CHECK(loaded.rows() == saved.rows());
    CHECK(loaded.by_class() == saved.by_class());
    if (saved.rows() > 0)
      for (const double query : {0.5, 1.0, 2.5, 3.0}) {
        CHECK(loaded.p_value(query, 1) == saved.p_value(query, 1));
        CHECK(loaded.threshold(0.3, 0) == saved.threshold(0.3, 0));
      }
  }

  // each field in turn is not what the others say
  struct Spoil final : FieldVisitor {
    std::string field;
    void state(std::string_view name, Index& value) override {
      if (name == field) value = Index{1} << 62;
    }
    void state(std::string_view name, VectorD& value) override {
      if (name == field && value.size() > 1) std::swap(value[0], value[value.size() - 1]);
      if (fmt::format("{}/NaN", name) == field) value[0] = kNan;
      if (fmt::format("{}/short", name) == field) value.conservativeResize(1);
    }
    void state(std::string_view name, std::vector<Index>& value) override {
      if (name == field) value[0] = -1;
      if (fmt::format("{}/large", name) == field) value[0] = Index{1} << 62;
      if (fmt::format("{}/fewer", name) == field) value.pop_back();
    }
  };
  for (const char* field :
       {"rows", "scores", "class_rows", "class_rows/large", "class_rows/fewer", "class_scores",
        "class_scores/short", "scores/NaN", "class_scores/NaN"}) {
    CAPTURE(field);
    Calibration calibration(some, classes, 2);
    Spoil spoil;
    spoil.field = field;
    calibration.visit(spoil);
    CHECK_THROWS_AS(calibration.finish_loading(), std::invalid_argument);
  }
}

TEST_CASE("adjusted_p_values: Benjamini and Hochberg's") {
  // R 4.2: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "BH") and the example below
  for (const double q : adjusted_p_values(std::vector<double>{0.01, 0.02, 0.03, 0.04, 0.05}))
    CHECK(q == doctest::Approx(0.05).epsilon(1e-15));
  const std::vector<double> p = {0.5, 0.001, 0.04, 0.03, 0.9, 0.039};
  // by hand: sorted 0.001 0.03 0.039 0.04 0.5 0.9; m p / i = 0.006 0.09 0.078 0.06 0.6 0.9; minima from
  // the right: 0.006 0.06 0.06 0.06 0.6 0.9
  const std::vector<double> expected = {0.6, 0.006, 0.06, 0.06, 0.9, 0.06};
  const auto q = adjusted_p_values(p);
  for (std::size_t i = 0; i < p.size(); ++i)
    CHECK(q[i] == doctest::Approx(expected[i]).epsilon(1e-14));
  CHECK(adjusted_p_values({}).empty());
  CHECK(adjusted_p_values(std::vector<double>{0.7}) == std::vector<double>{0.7});
  CHECK(adjusted_p_values(std::vector<double>{0, 1}) == std::vector<double>{0, 1});
  CHECK_THROWS_WITH(adjusted_p_values(std::vector<double>{0.1, kNan}),
                    doctest::Contains("at 1, expected 0 to 1"));
  CHECK_THROWS_AS(adjusted_p_values(std::vector<double>{1.5}), std::invalid_argument);
}

TEST_CASE("adjusted_p_values: conformal p-values keep the false discovery rate") {
  // 180 ID and 20 OOD rows that share 400 calibration rows; called OOD at q <= 0.2
  constexpr int kDraws = 1'000;
  std::mt19937_64 random(9);
  std::normal_distribution<double> normal;
  double rate = 0, found = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    std::vector<double> known(400), p(200);
    for (double& score : known) score = normal(random);
    const Calibration calibration{Scores(known)};
    for (std::size_t i = 0; i < p.size(); ++i)
      p[i] = calibration.p_value(normal(random) - (i < 180 ? 0 : 3.5));
    const auto q = adjusted_p_values(p);
    double wrong = 0, right = 0;
    for (std::size_t i = 0; i < q.size(); ++i) (i < 180 ? wrong : right) += q[i] <= 0.2 ? 1 : 0;
    rate += wrong + right > 0 ? wrong / (wrong + right) : 0;
    found += right / 20;
  }
  CHECK(rate / kDraws <= 0.2);
  CHECK(found / kDraws > 0.5);  // and it finds them
}
