#include "ood/drift.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "ood/random.h"

namespace {

using ood::Index;
using ood::Interval;
using ood::KolmogorovSmirnov;
using ood::MeanShift;
using ood::Scores;
using ood::ScoreSample;
using Values = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void check_close(double got, double want, double relative = 1e-9) {
  CAPTURE(got);
  CAPTURE(want);
  CHECK(std::abs(got - want) <= relative * std::abs(want));
}

Values numbers(Index count) {
  Values values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1.);
  return values;
}

Values normal_scores(std::uint32_t stream, int draw, std::size_t count, double mean = 0) {
  Values scores(count);
  ood::fill_normal(2024, stream, static_cast<std::uint64_t>(draw), scores);
  for (double& score : scores) score += mean;
  return scores;
}

/// Cases of tests/reference/drift.py that have `key`.
std::vector<nlohmann::json> reference_cases(const char* key) {
  std::ifstream file(OOD_SOURCE_DIR "/tests/reference/drift.json");
  const auto root = nlohmann::json::parse(file);
  std::vector<nlohmann::json> cases;
  for (const auto& one : root.at("cases"))
    if (one.contains(key)) cases.push_back(one);
  REQUIRE_FALSE(cases.empty());
  return cases;
}

}  // namespace

TEST_CASE("Kolmogorov-Smirnov is SciPy's, exact and asymptotic") {
  bool exact = false, asymptotic = false;
  for (const auto& one : reference_cases("ks")) {
    CAPTURE(one.at("name").get<std::string>());
    const auto calibration = one.at("calibration").get<Values>();
    const auto window = one.at("window").get<Values>();
    const KolmogorovSmirnov got = ood::kolmogorov_smirnov(ScoreSample(calibration), window);
    check_close(got.statistic, one.at("ks").at("statistic"), 1e-14);
    CHECK(got.exact == (calibration.size() * window.size() <= 1'000'000));
    check_close(got.p_value, one.at("ks").at(got.exact ? "p_exact" : "p_asymptotic"), 1e-10);
    (got.exact ? exact : asymptotic) = true;
  }
  CHECK(exact);
  CHECK(asymptotic);
}

TEST_CASE("Kolmogorov-Smirnov by hand") {
  // separated samples: 2 of the C(n + m, n) orders are as far apart
  const KolmogorovSmirnov apart =
      ood::kolmogorov_smirnov(ScoreSample(Values{1, 2, 3}), Values{0, -1});
  CHECK(apart.statistic == 1);
  check_close(apart.p_value, 2. / 10, 1e-14);
  // one score among n: D = max(i, n - i) / n where i scores are below it; 5 of 10 is the least
  const KolmogorovSmirnov middle = ood::kolmogorov_smirnov(ScoreSample(numbers(10)), Values{5.5});
  CHECK(middle.statistic == 0.5);
  CHECK(middle.p_value == 1);
  const KolmogorovSmirnov low = ood::kolmogorov_smirnov(ScoreSample(numbers(10)), Values{1.5});
  CHECK(low.statistic == 0.9);
  check_close(low.p_value, 4. / 11, 1e-14);  // of 11 places, 0, 1, 9 and 10 scores below it
  // the same scores, however often
  const KolmogorovSmirnov same =
      ood::kolmogorov_smirnov(ScoreSample(Values{1, 2}), Values{2, 1, 1, 2});
  CHECK(same.statistic == 0);
  CHECK(same.p_value == 1);
}

TEST_CASE("infinite scores rank as the largest and lowest numbers do") {
  const Values calibration = {-kInf, -kInf, 0, 1, 2, kInf}, window = {-kInf, 1.5, kInf, kInf};
  const Values as_numbers = {-9, -9, 0, 1, 2, 9}, window_as_numbers = {-9, 1.5, 9, 9};
  const KolmogorovSmirnov got = ood::kolmogorov_smirnov(ScoreSample(calibration), window);
  const KolmogorovSmirnov want =
      ood::kolmogorov_smirnov(ScoreSample(as_numbers), window_as_numbers);
  CHECK(got.statistic == want.statistic);
  CHECK(got.p_value == want.p_value);
  CHECK(got.statistic == 5. / 12);  // just below 1.5: 4 / 6 - 1 / 4
}

TEST_CASE("of many calibration scores D is bounded from below") {
  const auto n = 3 * ScoreSample::kMost + 17;
  const ScoreSample calibration(numbers(n));
  REQUIRE(std::ssize(calibration.kept()) < n);
  Values window(500);
  for (std::size_t i = 0; i < window.size(); ++i)
    window[i] = static_cast<double>(n) * std::pow(static_cast<double>(i) / 500., 1.1) + 0.5;
  // D by its definition, at every score of the window and just below it
  double want = 0;
  for (std::size_t i = 0; i < window.size(); ++i) {
    const double f = std::floor(window[i]) / static_cast<double>(n);
    want = std::max({want, std::abs(f - static_cast<double>(i) / 500),
                     std::abs(f - static_cast<double>(i + 1) / 500)});
  }
  const KolmogorovSmirnov got = ood::kolmogorov_smirnov(calibration, window);
  CHECK(got.statistic <= want);
  CHECK(got.statistic >= want - 1. / 65'536);
  CHECK_FALSE(got.exact);
}

TEST_CASE("the mean shift is SciPy's Welch test") {
  for (const auto& one : reference_cases("mean")) {
    CAPTURE(one.at("name").get<std::string>());
    const auto& want = one.at("mean");
    const MeanShift got = ood::mean_shift(ScoreSample(one.at("calibration").get<Values>()),
                                          one.at("window").get<Values>());
    // of "large numbers" the differences have lost 8 digits
    const double bound = one.at("name") == "large numbers" ? 1e-6 : 1e-9;
    check_close(got.window_mean - got.calibration_mean, want.at("shift"), bound);
    check_close(got.shift.value, want.at("shift"), bound);
    check_close(got.shift.low, want.at("low"), bound);
    check_close(got.shift.high, want.at("high"), bound);
    check_close(got.standardized, want.at("standardized"), bound);
    check_close(got.t, want.at("t"), bound);
    check_close(got.degrees_of_freedom, want.at("degrees_of_freedom"), bound);
    check_close(got.p_value, want.at("p_value"), bound);
  }
}

TEST_CASE("mean shifts that have no t of their own") {
  const ScoreSample constant(Values{2, 2, 2});
  const MeanShift same = ood::mean_shift(constant, Values{2, 2});
  CHECK(same.t == 0);
  CHECK(same.p_value == 1);
  CHECK(same.standardized == 0);
  const MeanShift lower = ood::mean_shift(constant, Values{1, 1});
  CHECK(lower.t == -kInf);
  CHECK(lower.p_value == 0);
  CHECK(lower.standardized == -kInf);
  CHECK(lower.shift.value == -1);
  CHECK(lower.shift.low == -1);
  CHECK(lower.shift.high == -1);
  CHECK(std::isnan(lower.degrees_of_freedom));

  const ScoreSample calibration(Values{1, 2, 3});  // variance 1
  const MeanShift one = ood::mean_shift(calibration, Values{5});
  CHECK(one.shift.value == 3);
  CHECK(one.standardized == 3);
  for (const double unknown : {one.t, one.p_value, one.shift.low, one.shift.high})
    CHECK(std::isnan(unknown));
  CHECK(std::isnan(ood::mean_shift(ScoreSample(Values{1}), Values{1, 2}).standardized));

  const MeanShift infinite = ood::mean_shift(calibration, Values{5, kInf});
  CHECK(infinite.window_mean == kInf);
  CHECK(infinite.shift.value == kInf);
  for (const double unknown : {infinite.standardized, infinite.t, infinite.p_value})
    CHECK(std::isnan(unknown));
}

TEST_CASE("the interval of a share is SciPy's exact one") {
  for (const auto& one : reference_cases("count")) {
    CAPTURE(one.at("name").get<std::string>());
    const Index count = one.at("count"), rows = one.at("rows");
    const Interval got = ood::share_interval(count, rows);
    CHECK(got.value == static_cast<double>(count) / static_cast<double>(rows));
    check_close(got.low, one.at("low"), 1e-8);
    check_close(got.high, one.at("high"), 1e-8);
  }
  // none of n: 1 - (1 - high)^n = 1 - (1 - level) / 2; the rule of three
  check_close(ood::share_interval(0, 60, 0.9).high, 1 - std::pow(0.05, 1 / 60.), 1e-12);
  CHECK(ood::share_interval(60, 60).high == 1);
}

TEST_CASE("too many rejects: as many orders of calibration rows and window say so") {
  for (const auto& one : reference_cases("count")) {
    CAPTURE(one.at("name").get<std::string>());
    check_close(ood::rejects_p_value(one.at("count"), one.at("rows"), one.at("calibration_rows"),
                                     one.at("alpha")),
                one.at("p_value"), 1e-10);
  }
  // one calibration row, alpha 1/2: each of m window rows is below it with the others; P(R = r) is
  // 1 / (m + 1) for every r
  for (const Index rejected : {0, 1, 3, 7})
    check_close(ood::rejects_p_value(rejected, 7, 1, 0.5), static_cast<double>(8 - rejected) / 8,
                1e-14);
  // alpha below 1 / (n + 1) rejects nothing
  CHECK(ood::rejects_p_value(0, 7, 9, 0.09) == 1);
  CHECK(ood::rejects_p_value(1, 7, 9, 0.09) == 0);
}

TEST_CASE("without drift a share of 5 % of the p-values is below 5 %") {
  constexpr int kDraws = 4000;
  constexpr Index kRows = 150;
  int ks = 0, mean = 0, rejects = 0, covered = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    const Values calibration = normal_scores(1, draw, 299), window = normal_scores(2, draw, kRows);
    const ScoreSample sample(calibration);
    ks += ood::kolmogorov_smirnov(sample, window).p_value <= 0.05;
    const MeanShift shift = ood::mean_shift(sample, window);
    mean += shift.p_value <= 0.05;
    covered += shift.shift.low <= 0 && 0 <= shift.shift.high;
    Values sorted = calibration;
    std::ranges::sort(sorted);
    // 15 / 300 = 0.05: the window's scores below the 15th
    const auto rejected = std::ranges::count_if(window, [&](double s) { return s < sorted[14]; });
    rejects += ood::rejects_p_value(rejected, kRows, 299, 0.05) <= 0.05;
  }
  CAPTURE(ks);
  CAPTURE(mean);
  CAPTURE(rejects);
  // 200 expected, standard deviation 13.8: four of them; D and rejects are whole numbers, whose tests
  // reach a little less than 5 %
  CHECK(std::abs(mean - 200) <= 55);
  CHECK(covered == kDraws - mean);
  CHECK(ks <= 255);
  CHECK(ks >= 120);
  CHECK(rejects <= 255);
  CHECK(rejects >= 80);
}

TEST_CASE("drift is found") {
  const ScoreSample sample(normal_scores(1, 0, 5000));
  const Values moved = normal_scores(2, 0, 500, -0.5);
  CHECK(ood::kolmogorov_smirnov(sample, moved).p_value < 1e-10);
  CHECK(ood::mean_shift(sample, moved).p_value < 1e-10);
}

TEST_CASE("drift: bad input") {
  const ScoreSample sample(Values{1, 2, 3}), none;
  CHECK_THROWS_WITH_AS(ood::kolmogorov_smirnov(none, Values{1}),
                       "kolmogorov_smirnov: calibration has no scores, expected 1 or more",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::mean_shift(sample, Values{}),
                       "mean_shift: window has 0 scores, expected 1 or more",
                       std::invalid_argument);
  CHECK_THROWS_AS(ood::kolmogorov_smirnov(sample, Values{1, kNaN}), std::invalid_argument);
  CHECK_THROWS_AS(ood::mean_shift(sample, Values{1, kNaN}), std::invalid_argument);
  for (const double level : {0., 1., kNaN}) {
    CHECK_THROWS_AS(ood::mean_shift(sample, Values{1, 2}, level), std::invalid_argument);
    CHECK_THROWS_AS(ood::share_interval(1, 2, level), std::invalid_argument);
  }
  CHECK_THROWS_WITH_AS(ood::share_interval(3, 2), "share_interval: count is 3, expected 0 to 2",
                       std::invalid_argument);
  CHECK_THROWS_AS(ood::share_interval(-1, 2), std::invalid_argument);
  CHECK_THROWS_AS(ood::share_interval(0, 0), std::invalid_argument);
  CHECK_THROWS_WITH_AS(ood::rejects_p_value(0, 1, 1, 1.),
                       "rejects_p_value: alpha is 1, expected a share in [0, 1)",
                       std::invalid_argument);
  CHECK_THROWS_AS(ood::rejects_p_value(0, 1, 0, 0.1), std::invalid_argument);
  CHECK_THROWS_AS(ood::rejects_p_value(0, 0, 1, 0.1), std::invalid_argument);
  CHECK_THROWS_AS(ood::rejects_p_value(2, 1, 1, 0.1), std::invalid_argument);
}
