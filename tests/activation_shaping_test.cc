// Rows without negative entries and their largest entries; what becomes of features of either sign.
#include "ood/activation_shaping.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "ood/dataset.h"
#include "ood/evaluate.h"
#include "ood/registry.h"

using namespace ood;

namespace {

std::vector<Index> largest(const std::vector<float>& row, Index k) {
  std::pmr::vector<Index> columns;
  largest_entries(row, k, columns);
  return {columns.begin(), columns.end()};
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
  CHECK(largest({0.0f, -0.0f, 0.0f}, 2) == std::vector<Index>{0, 1});
  CHECK(largest({3, 1}, 2) == std::vector<Index>{0, 1});
  CHECK(largest({7}, 1) == std::vector<Index>{0});
}

TEST_CASE("activation_shaping: the ratio of sums") {
  CHECK(sum_ratio(std::vector<float>{1, 4, 0, 3, 2}, 2) == doctest::Approx(10.0 / 7));
  CHECK(sum_ratio(std::vector<float>{3, 3, 3, 3}, 1) == doctest::Approx(4));
  CHECK(sum_ratio(std::vector<float>{5, 0, 0}, 1) == 1);
  CHECK(sum_ratio(std::vector<float>{0, 0, 0}, 2) == 1);
  // neither sum is beyond float64
  const float most = std::numeric_limits<float>::max();
  CHECK(sum_ratio(std::vector<float>{most, most, most}, 1) == doctest::Approx(3));
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
