#include "ood/curves.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

using namespace ood;

namespace {

using Values = std::vector<double>;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double area_below(const std::vector<RocPoint>& points) {
  double area = 0;
  for (std::size_t i = 1; i < points.size(); ++i)
    area += (points[i].fpr - points[i - 1].fpr) * (points[i].tpr + points[i - 1].tpr) / 2;
  return area;
}

/// Every pair by itself.
double pairs_in_order(const Values& id, const Values& ood) {
  double pairs = 0;
  for (const double x : id)
    for (const double y : ood) pairs += x > y ? 1.0 : x == y ? 0.5 : 0.0;
  return pairs / (static_cast<double>(id.size()) * static_cast<double>(ood.size()));
}

/// From (0, 0) to (1, 1), rising, and with the area that the scores have.
void check_curve(const Values& id, const Values& ood, std::size_t most) {
  const auto points = roc_curve(id, ood);
  REQUIRE(points.size() >= 2);
  CHECK(points.size() <= most);
  CHECK(points.front().fpr + points.front().tpr == 0);
  CHECK(points.back().fpr == 1);
  CHECK(points.back().tpr == 1);
  CHECK(std::ranges::is_sorted(points, {}, &RocPoint::fpr));
  CHECK(std::ranges::is_sorted(points, {}, &RocPoint::tpr));
  CHECK(std::abs(area_below(points) - pairs_in_order(id, ood)) <= 1e-3);
}

/// An ID score, then an OOD one below it, `steps` times.
void staircase(int steps, Values& id, Values& ood) {
  id.clear();
  ood.clear();
  for (int step = 0; step < steps; ++step) {
    id.push_back(-2.0 * step);
    ood.push_back(-2.0 * step - 1);
  }
}

Values normal(std::size_t count, double mean, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> draw(mean, 1);
  Values values(count);
  std::ranges::generate(values, [&] { return draw(random); });
  return values;
}

template <class Work>
std::string message_of(const Work& work) {
  try {
    work();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("curves: a short ROC curve is given by its corners, ties as slopes") {
  // thresholds 3, 2 (a tie of two kinds), 1, 0: (0, 1/3), (1/2, 2/3), (1/2, 1), (1, 1)
  const auto points = roc_curve(Values{3, 2, 1}, Values{2, 0});
  REQUIRE(points.size() == 5);
  const double fpr[] = {0, 0, 0.5, 0.5, 1}, tpr[] = {0, 1 / 3.0, 2 / 3.0, 1, 1};
  for (std::size_t i = 0; i < points.size(); ++i) {
    CHECK(points[i].fpr == doctest::Approx(fpr[i]));
    CHECK(points[i].tpr == doctest::Approx(tpr[i]));
  }
  // what lies on a line is no corner: apart, and all equal
  CHECK(roc_curve(Values{5, 4, 3}, Values{2, 1}).size() == 3);
  CHECK(roc_curve(Values{1, 1}, Values{1, 1, 1}).size() == 2);
  CHECK(roc_curve(Values{kInf, 0}, Values{-kInf}).size() == 3);
}

TEST_CASE("curves: the area below a thinned ROC curve is within 1e-3 of the AUROC") {
  for (const double mean : {-1.0, 0.0, 0.1, 1.0, 3.0, 5.0}) {
    CAPTURE(mean);
    check_curve(normal(2000, mean, 1), normal(1500, 0, 2), 501);
  }
  Values few = normal(3000, 1, 3), other = normal(3000, 0, 4);  // many ties
  for (auto* values : {&few, &other})
    for (double& value : *values) value = std::round(20 * value);
  check_curve(few, other, 201);
  check_curve(normal(3000, 0.5, 5), Values{0.1, 0.2}, 201);
}

TEST_CASE("curves: staircases, of which chords cut off the same side, too") {
  Values id, ood;
  for (int steps : {1,   7,   99,  100, 101, 149, 150, 190, 199,  200, 201,
                    250, 300, 333, 400, 499, 500, 501, 750, 1000, 1500}) {
    CAPTURE(steps);
    staircase(steps, id, ood);
    check_curve(id, ood, 501);
  }
}

TEST_CASE("curves: an ROC curve of finer points where 201 miss the area") {
  Values id, ood;
  // 200 steps: each of 200 chords cuts off a corner of 0.005^2 / 2, 0.0025 in all
  staircase(200, id, ood);
  const auto points = roc_curve(id, ood);
  CHECK(points.size() == 501);
  check_curve(id, ood, 501);
}

TEST_CASE("curves: a histogram counts every score, those outside and infinite ones at the ends") {
  Values id(1000), ood(500);
  std::iota(id.begin(), id.end(), 0.0);  // 0.5 % quantile 4.995, 99.5 % quantile 994.005
  std::iota(ood.begin(), ood.end(), 300.0);
  ood[0] = -kInf;
  ood[1] = -1e30;
  ood[2] = kInf;
  const ScoreHistogram histogram = score_histogram(id, ood, 10);
  CHECK(histogram.low == doctest::Approx(4.995).epsilon(1e-12));
  CHECK(histogram.high == doctest::Approx(994.005).epsilon(1e-12));
  // numpy.histogram of the scores clipped to [low, high] into 10 bins
  CHECK(histogram.id == std::vector<Index>{104, 99, 99, 99, 99, 99, 99, 99, 99, 104});
  CHECK(histogram.ood == std::vector<Index>{2, 0, 0, 98, 99, 99, 99, 99, 3, 1});
}

TEST_CASE("score_histogram: scores whose difference is beyond doubles, or hardly one") {
  for (const auto& [id, ood] :
       {std::pair<std::vector<double>, std::vector<double>>{{1e308, 1.1e308}, {-1e308, -1.2e308}},
        {{0, 5e-324}, {5e-324, 1e-323}}}) {
    const ScoreHistogram histogram = score_histogram(id, ood, 10);
    CHECK(std::accumulate(histogram.id.begin(), histogram.id.end(), Index{0}) == 2);
    CHECK(std::accumulate(histogram.ood.begin(), histogram.ood.end(), Index{0}) == 2);
    CHECK(histogram.id.back() + histogram.ood.back() >= 1);
    CHECK(histogram.id.front() + histogram.ood.front() >= 1);
  }
}

TEST_CASE("curves: a histogram of scores that are all the same, or all infinite") {
  const ScoreHistogram same = score_histogram(Values{7, 7, 7}, Values{7}, 4);
  CHECK(same.low == 3.5);
  CHECK(same.high == 10.5);
  CHECK(same.id == std::vector<Index>{0, 0, 3, 0});
  CHECK(same.ood == std::vector<Index>{0, 0, 1, 0});
  const ScoreHistogram none = score_histogram(Values{kInf, -kInf}, Values{-kInf}, 3);
  CHECK(none.low == -0.5);
  CHECK(none.high == 0.5);
  CHECK(none.id == std::vector<Index>{1, 0, 1});
  CHECK(none.ood == std::vector<Index>{1, 0, 0});
  CHECK(score_histogram(Values{1, 2}, Values{3}).id.size() == 60);
}

TEST_CASE("curves: rank correlations are those of scipy.stats.spearmanr") {
  // which got +-1e300 for +-infinity: the ranks are the same
  const std::vector<Values> scores = {
      {3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0},
      {2.0, 7.0, 1.0, 8.0, 2.0, 8.0, 1.0, 8.0},
      {-kInf, -1.0, 0.0, 2.0, 2.0, 3.0, kInf, kInf},
      {8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0},
  };
  const MatrixD got = rank_correlation(scores);
  const double want[4][4] = {{1.0, 0.1988536812099247, 0.4060680637611138, -0.5030030300035688},
                             {0.1988536812099246, 1.0, 0.2250703454761599, -0.2470831055537004},
                             {0.4060680637611138, 0.2250703454761599, 1.0, -0.9880235200593538},
                             {-0.5030030300035688, -0.2470831055537004, -0.9880235200593538, 1.0}};
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 4; ++j) CHECK(got(i, j) == doctest::Approx(want[i][j]).epsilon(1e-12));
  for (Index i = 0; i < 4; ++i) CHECK(got(i, i) == 1);
}

TEST_CASE("curves: a constant score has no rank correlation; the others keep theirs") {
  const MatrixD got = rank_correlation(std::vector<Values>{{1, 2, 3}, {5, 5, 5}, {1, 0, -1}});
  CHECK(got(0, 2) == doctest::Approx(-1).epsilon(1e-15));
  CHECK(got(0, 2) >= -1);
  for (Index i = 0; i < 3; ++i) {
    CHECK(std::isnan(got(1, i)));
    CHECK(std::isnan(got(i, 1)));
  }
  CHECK(rank_correlation({}).size() == 0);
  CHECK(std::isnan(rank_correlation(std::vector<Values>{{1}})(0, 0)));
}

TEST_CASE("curves: bad scores are errors that say where") {
  CHECK(message_of([] { roc_curve(Values{}, Values{1}); }) ==
        "roc_curve: id has 0 scores, expected 1 or more");
  CHECK(message_of([] {
          roc_curve(Values{1}, Values{1, kNaN});
        }) == "roc_curve: ood score 1 is NaN, expected a number");
  CHECK(message_of([] { score_histogram(Values{kNaN}, Values{1}); }) ==
        "score_histogram: id score 0 is NaN, expected a number");
  CHECK(message_of([] { score_histogram(Values{1}, Values{}); }) ==
        "score_histogram: ood has 0 scores, expected 1 or more");
  CHECK(message_of([] { score_histogram(Values{1}, Values{1}, 0); }) ==
        "score_histogram: bins has 0, expected 1 or more");
  CHECK(message_of([] {
          rank_correlation(std::vector<Values>{{1, 2}, {1, 2, 3}});
        }) == "rank_correlation: score 1 has 3 rows, expected 2 as score 0 has");
  CHECK(message_of([] {
          rank_correlation(std::vector<Values>{{1, kNaN}});
        }) == "rank_correlation: scores score 1 is NaN, expected a number");
}
