// Rows without negative entries and their largest entries; what becomes of features of either sign.
#include "ood/activation_shaping.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "ood/dataset.h"
#include "ood/evaluate.h"
#include "ood/registry.h"

using namespace ood;

namespace {

MatrixView as_rows(const std::vector<float>& row) {
  return {row.data(), 1, std::ssize(row), std::ssize(row)};
}

/// The columns of the k largest entries, all above -8.
std::vector<Index> largest(const std::vector<float>& row, Index k) {
  std::vector<float> shares(row.size());
  const MatrixMap out(shares.data(), 1, std::ssize(row));
  std::vector<float> raised = row;
  for (float& x : raised) x += 8;
  share_among_largest(as_rows(raised), k, out);
  std::vector<Index> columns;
  for (Index j = 0; j < std::ssize(row); ++j)
    if (shares[static_cast<std::size_t>(j)] != 0) columns.push_back(j);
  return columns;
}

double sum_ratio(const std::vector<float>& row, Index k) {
  double own = 0, same = 0;
  row_sum_ratios(as_rows(row), k, std::span(&own, 1));
  row_sum_ratios(as_rows(row), std::span(&k, 1), std::span(&same, 1));
  CHECK((own == same || (std::isnan(own) && std::isnan(same))));
  return own;
}

MatrixMap map_of(Matrix& matrix) { return {matrix.data(), matrix.rows(), matrix.cols()}; }

}  // namespace

TEST_CASE("activation_shaping: how many entries are kept, ties to even and at least one") {
  CHECK(kept_entries(512, 90) == 51);  // 460.8 are dropped
  CHECK(kept_entries(5, 50) == 3);     // 2.5: 2
  CHECK(kept_entries(7, 50) == 3);     // 3.5: 4
  CHECK(kept_entries(9, 50) == 5);     // 4.5: 4
  CHECK(kept_entries(10, 65) == 4);    // 6.5: 6
  CHECK(kept_entries(8, 0) == 8);
  CHECK(kept_entries(8, 95) == 1);  // 7.6: 8, which would leave none
  CHECK(kept_entries(8, 100) == 1);
  CHECK(kept_entries(1, 90) == 1);
}

TEST_CASE("activation_shaping: the largest entries, of equal ones the first") {
  CHECK(largest({1, 4, 0, 3, 2}, 2) == std::vector<Index>{1, 3});
  CHECK(largest({2, 2, 0, 2, 2}, 2) == std::vector<Index>{0, 1});
  CHECK(largest({0, 2, 5, 2, 2}, 3) == std::vector<Index>{1, 2, 3});
  CHECK(largest({-1, -3, -2}, 2) == std::vector<Index>{0, 2});
  CHECK(largest({3, 1}, 2) == std::vector<Index>{0, 1});
  CHECK(largest({7}, 1) == std::vector<Index>{0});
}

TEST_CASE("activation_shaping: ties among many entries, at each place of the last that is taken") {
  constexpr Index kDim = 203;
  Matrix row(1, kDim), out(1, kDim);
  for (Index j = 0; j < kDim; ++j) row(0, j) = static_cast<float>(j * 7 % 5);
  row(0, 77) = -0.0f;
  for (Index k = 1; k <= kDim; ++k) {
    CAPTURE(k);
    std::vector<Index> order(kDim);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](Index a, Index b) { return row(0, a) > row(0, b); });
    Matrix expected = Matrix::Zero(1, kDim);
    const auto share = static_cast<float>(row.cast<double>().sum() / static_cast<double>(k));
    for (Index j = 0; j < k; ++j) expected(0, order[static_cast<std::size_t>(j)]) = share;
    share_among_largest(row, k, map_of(out));
    CHECK(out == expected);
  }
}

TEST_CASE("activation_shaping: what the largest entries become, in place too") {
  Matrix rows(3, 5);
  rows << 1, 4, 0, 3, 2, 2, 2, 2, 0, 0, 1, std::nanf(""), 3, 4, 5;
  const std::vector<double> r = {std::log(2.0), 0, 1};
  Matrix out(3, 5), expected(2, 5);
  keep_largest(rows, 2, r, map_of(out));
  expected << 0, 8, 0, 6, 0, 2, 2, 0, 0, 0;
  CHECK(out.topRows(2).isApprox(expected));
  CHECK(out.row(2).array().isNaN().all());
  keep_largest(rows, 2, {}, map_of(out));
  expected << 0, 4, 0, 3, 0, 2, 2, 0, 0, 0;
  CHECK(out.topRows(2) == expected);
  CHECK(out.row(2).array().isNaN().all());
  share_among_largest(rows, 2, map_of(rows));
  expected << 0, 5, 0, 5, 0, 3, 3, 0, 0, 0;
  CHECK(rows.topRows(2) == expected);
  CHECK(rows.row(2).array().isNaN().all());
}

TEST_CASE("activation_shaping: shapes that do not agree") {
  Matrix rows = Matrix::Ones(3, 4), narrow(3, 3);
  std::vector<double> two(2);
  CHECK_THROWS_WITH_AS(row_sum_ratios(rows, 2, two),
                       "row_sum_ratios: out has 2 entries, expected 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(scale_rows(rows, two, map_of(rows)),
                       "scale_rows: r has 2 entries, expected 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(clip_rows(rows, 1, map_of(narrow)),
                       "clip_rows: out has shape [3, 3], expected [3, 4]", std::invalid_argument);
  CHECK_THROWS_WITH_AS(rectify_rows(rows, two, two, false, 0, map_of(rows)),
                       "rectify_rows: l has 2 entries, expected 4", std::invalid_argument);
  CHECK_THROWS_WITH_AS(row_shifts(rows, narrow, 1, 1, 1, two),
                       "row_shifts: y has shape [3, 3], expected [3, 4] as x has",
                       std::invalid_argument);
}

TEST_CASE("activation_shaping: the ratio of sums") {
  CHECK(sum_ratio(std::vector<float>{1, 4, 0, 3, 2}, 2) == doctest::Approx(10.0 / 7));
  CHECK(sum_ratio(std::vector<float>{3, 3, 3, 3}, 1) == doctest::Approx(4));
  CHECK(sum_ratio(std::vector<float>{5, 0, 0}, 1) == 1);
  CHECK(sum_ratio(std::vector<float>{0, 0, 0}, 2) == 1);
  // neither sum is beyond float64
  const float most = std::numeric_limits<float>::max();
  CHECK(sum_ratio(std::vector<float>{most, most, most}, 1) == doctest::Approx(3));
  // a row with NaN or infinity, or of which none is kept, has none
  CHECK(std::isnan(sum_ratio({1, std::nanf(""), 2}, 1)));
  CHECK(std::isnan(sum_ratio({1, std::numeric_limits<float>::infinity(), 2}, 1)));
  const Index none = 0;
  double ratio = 0;
  row_sum_ratios(as_rows({1, 2}), std::span(&none, 1), std::span(&ratio, 1));
  CHECK(std::isnan(ratio));
}

TEST_CASE("activation_shaping: a negative entry is an error that says where, or 0") {
  Matrix rows = Matrix::Ones(5, 3), out(5, 3);
  rows(3, 1) = -0.5f;
  Batch tile;
  tile.features = rows;
  tile.first_row = 1'000;
  CHECK_THROWS_WITH_AS(non_negative_rows(tile, false, map_of(out)),
                       "features has -0.5 at row 1003, column 1, expected 0 or more, as after a "
                       "ReLU; relu = true takes negative entries for 0",
                       std::domain_error);
  non_negative_rows(tile, true, map_of(out));
  rows(3, 1) = 0;
  CHECK(out == rows);
}

TEST_CASE("activation_shaping: a row with NaN or infinity becomes NaN, whatever else is in it") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Matrix rows = Matrix::Ones(4, 3), out(4, 3);
  rows.row(0) << -1, std::nanf(""), 2;
  rows.row(1) << -kInfinity, 1, 2;
  rows.row(2) << 1, 2, kInfinity;
  Batch tile;
  tile.features = rows;
  for (const bool relu : {false, true}) {
    non_negative_rows(tile, relu, map_of(out));
    CHECK(out.topRows(3).array().isNaN().all());
    CHECK(out.row(3) == rows.row(3));
  }
}

TEST_CASE("activation_shaping: on a file with negative features the detectors are left out") {
  const Dataset dataset(OOD_SOURCE_DIR "/tests/reference/small.h5");
  std::vector<std::unique_ptr<Detector>> detectors;
  for (const char* name : {"ash", "scale", "lts", "energy"})
    detectors.push_back(make_detector(name));
  const auto report = evaluate(dataset, detectors);
  REQUIRE(report.left_out.size() == 3);
  for (const LeftOut& left : report.left_out) {
    CAPTURE(left.reason);
    CHECK(left.reason.starts_with("on id_test: " + left.detector + ".score: features has -"));
    CHECK(
        left.reason.ends_with(", expected 0 or more, as after a ReLU; relu = true takes negative "
                              "entries for 0"));
  }
  REQUIRE(report.timings.size() == 1);
  CHECK(report.timings[0].detector == "energy");

  detectors.clear();
  for (const char* name : {"ash", "scale", "lts"})
    detectors.push_back(make_detector(name, {{"relu", true}}));
  const auto rectified = evaluate(dataset, detectors);
  CHECK(rectified.left_out.empty());
  CHECK(rectified.timings.size() == 3);
}
