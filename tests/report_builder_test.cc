#include "ood/report_builder.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "named_metrics.h"
#include "ood/detectors/energy.h"
#include "ood/score_bins.h"

using namespace ood;

namespace {

using Values = std::vector<double>;
using Floats = std::vector<float>;

const Values kId{3, 4, 5, 5, 7}, kSvhn{0, 1, 3}, kCifar{2, 5, 6, 1}, kLsun{4, -1};

Report header() {
  return {.file = "cluster",
          .model = "net",
          .id_dataset = "cifar10",
          .version = "1.2.3",
          .id_accuracy = 0.5,
          .rows = {},
          .timings = {},
          .left_out = {}};
}

ReportTiming timing(const std::string& detector, double temperature = 1) {
  return {.detector = detector, .options = {{"temperature", temperature}}, .scored_rows = 14};
}

DetectorResults results_of(const std::string& detector, ReportParts parts = {}) {
  DetectorResults results(timing(detector), {}, parts);
  results.set_id(kId);
  results.add_set("svhn", "far", kSvhn);
  results.add_set("cifar100", "near", kCifar);
  results.add_set("lsun", "far", kLsun);
  return results;
}

std::vector<std::int64_t> counts_of(const Values& scores, const Floats& edges) {
  return bin_counts(Floats(scores.begin(), scores.end()), edges);
}

DetectorResults counted(const std::string& detector, const Floats& edges) {
  DetectorResults results(timing(detector), {});
  results.set_id_counts(counts_of(kId, edges));
  results.add_set_counts("svhn", "far", counts_of(kSvhn, edges));
  results.add_set_counts("cifar100", "near", counts_of(kCifar, edges));
  results.add_set_counts("lsun", "far", counts_of(kLsun, edges));
  return results;
}

void check_equal(const Metrics& got, const Metrics& want) {
  for (const NamedMetric& metric : kMetrics) CHECK(got.*metric.member == want.*metric.member);
}

void check_close(const std::optional<Interval>& got, const Interval& want) {
  REQUIRE(got);
  CHECK(std::abs(got->value - want.value) <= 1e-15);
  CHECK(std::abs(got->low - want.low) <= 1e-15);
  CHECK(std::abs(got->high - want.high) <= 1e-15);
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "none";
}

}  // namespace

TEST_CASE("report builder: rows and means of scores") {
  ReportBuilder builder(header());
  builder.leave_out("knn", "no /train");
  CHECK(builder.add(results_of("msp")));
  CHECK(builder.add(results_of("energy")));
  const Report report = builder.finish();
  CHECK(report.file == "cluster");
  CHECK(report.id_accuracy == 0.5);
  CHECK(report.left_out.size() == 1);
  REQUIRE(report.rows.size() == 6);
  REQUIRE(report.timings.size() == 2);
  CHECK(report.timings[1].detector == "energy");
  CHECK(report.fits.empty());
  CHECK(report.curves.empty());
  CHECK(report.scores.empty());
  CHECK(report.agreement.size() == 0);
  const ReportRow& row = report.rows[4];
  CHECK(row.detector == "energy");
  CHECK(row.options == OptionMap{{"temperature", 1.0}});
  CHECK(row.dataset == "cifar100");
  CHECK(row.kind == "near");
  CHECK(row.n_id == 5);
  CHECK(row.n_ood == 4);
  CHECK_FALSE(row.bounds);
  check_equal(row.metrics, compute_metrics(kId, kCifar));
  check_close(row.auroc_interval, auroc_interval(kId, kCifar));
  REQUIRE(report.means.size() == 4);
  CHECK(report.means[0].kind == "near");
  CHECK(report.means[1].kind == "far");
  CHECK(report.means[1].datasets == 2);
  CHECK_FALSE(report.means[1].bounds);
  CHECK(report.means[1].metrics.auroc == (auroc(kId, kSvhn) + auroc(kId, kLsun)) / 2);
  MeanAuroc far;
  far.add(kId, kSvhn);
  far.add(kId, kLsun);
  check_close(report.means[1].auroc_interval, far.interval());
}

TEST_CASE("report builder: a set of one score has no interval, nor has the mean over it") {
  DetectorResults results(timing("msp"), {});
  results.set_id(kId);
  results.add_set("svhn", "far", kSvhn);
  results.add_set("one", "far", {1});
  results.add_set("other", "", {1});
  ReportBuilder builder(header());
  CHECK(builder.add(std::move(results)));
  const Report report = builder.finish();
  CHECK(report.rows[0].auroc_interval);
  CHECK_FALSE(report.rows[1].auroc_interval);
  REQUIRE(report.means.size() == 1);
  CHECK_FALSE(report.means[0].auroc_interval);
}

TEST_CASE("report builder: what cannot be ranked is left out, and what its fit found stays") {
  ReportBuilder builder(header());
  DetectorResults results(timing("msp"),
                          {.values = {{"rank", Index{3}}}, .per_class = {}, .warnings = {}});
  results.set_id(kId);
  results.add_set("svhn", "far", kSvhn);
  results.add_set("lsun", "far", {1, std::nan("")});
  CHECK(results.failed());
  CHECK_FALSE(builder.add(std::move(results)));
  const Report report = builder.finish();
  CHECK(report.rows.empty());
  CHECK(report.timings.empty());
  REQUIRE(report.left_out.size() == 1);
  CHECK(report.left_out[0].reason ==
        "on lsun: compute_metrics: ood score 1 is NaN, expected a number");
  REQUIRE(report.fits.size() == 1);
  CHECK(report.fits[0].detector == "msp");
}

TEST_CASE("report builder: curves, agreement and scores where they are asked for") {
  ReportBuilder builder(header());
  builder.add(results_of("msp", {.curves = true, .keep_scores = true}));
  builder.add(results_of("energy", {.curves = true, .keep_scores = true}));
  const Report report = builder.finish();
  REQUIRE(report.curves.size() == 6);
  CHECK(report.curves[5].dataset == "lsun");
  CHECK(report.curves[5].roc.back().tpr == 1);
  CHECK(report.agreement.rows() == 2);
  CHECK(report.agreement(0, 1) == doctest::Approx(1));
  REQUIRE(report.scores.size() == 2);
  CHECK(report.scores[1].id_test == kId);
  CHECK(report.scores[1].sets[2].scores == kLsun);
}

TEST_CASE("report builder: counts by bins of all distinct scores are exact") {
  const Floats edges{-1, 0, 1, 2, 3, 4, 5, 6, 7};
  ReportBuilder exact_builder(header()), builder(header());
  exact_builder.add(results_of("msp"));
  builder.add(counted("msp", edges));
  const Report exact = exact_builder.finish(), report = builder.finish();
  REQUIRE(report.rows.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    const ReportRow &row = report.rows[i], &want = exact.rows[i];
    CHECK(row.dataset == want.dataset);
    CHECK(row.kind == want.kind);
    CHECK(row.n_id == want.n_id);
    CHECK(row.n_ood == want.n_ood);
    check_equal(row.metrics, want.metrics);
    check_close(row.auroc_interval, *want.auroc_interval);
    REQUIRE(row.bounds);
    check_equal(row.bounds->low, want.metrics);
    check_equal(row.bounds->high, want.metrics);
  }
  REQUIRE(report.means.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    check_equal(report.means[i].metrics, exact.means[i].metrics);
    check_close(report.means[i].auroc_interval, *exact.means[i].auroc_interval);
    REQUIRE(report.means[i].bounds);
    check_equal(report.means[i].bounds->low, exact.means[i].metrics);
  }
}

TEST_CASE("report builder: bounds of a mean are the means of the bounds") {
  ReportBuilder builder(header());
  builder.add(counted("msp", {2}));
  const Report report = builder.finish();
  const ReportMean& far = report.means[1];
  REQUIRE(far.bounds);
  for (const NamedMetric& metric : kMetrics) {
    const auto member = metric.member;
    CHECK(far.bounds->low.*member ==
          (report.rows[0].bounds->low.*member + report.rows[2].bounds->low.*member) / 2);
    CHECK(far.bounds->high.*member ==
          (report.rows[0].bounds->high.*member + report.rows[2].bounds->high.*member) / 2);
  }
  CHECK(far.bounds->low.auroc < far.bounds->high.auroc);
}

TEST_CASE("report builder: errors") {
  ReportBuilder builder(header());
  builder.add(results_of("msp"));
  CHECK(error_of([&] { builder.add(results_of("msp")); }) ==
        "report: msp is there twice with the same options, expected each once");
  CHECK(error_of([&] {
          DetectorResults fewer(timing("energy"), {});
          fewer.set_id(kId);
          fewer.add_set("svhn", "far", kSvhn);
          builder.add(std::move(fewer));
        }) == "report: energy has the sets svhn, expected svhn, cifar100, lsun as msp has");
  CHECK(error_of([] {
          DetectorResults drawn(timing("energy"), {}, {.curves = true});
          drawn.set_id_counts({1, 0, 1});
        }) == "energy: curves need the scores themselves, expected no counts");
  CHECK(error_of([] {
          DetectorResults results(timing("energy"), {});
          results.set_id_counts({1, 0, 1});
          results.add_set_counts("svhn", "far", std::vector<std::int64_t>{1});
        }) == "binned_metrics: ood has 1 bins, expected 3 as id has");
  DetectorResults other(timing("msp", 2), {});  // the same name, other options
  other.set_id(kId);
  other.add_set("svhn", "far", kSvhn);
  other.add_set("cifar100", "near", kCifar);
  other.add_set("lsun", "far", kLsun);
  CHECK(builder.add(std::move(other)));
  CHECK(builder.finish().rows.size() == 6);
  CHECK(builder.finish().rows.empty());
}

TEST_CASE("option_map: a detector's options by name") {
  CHECK(option_map(Energy()).at("temperature") == OptionValue{1.0});
}
