#include "ood/gate.h"

#include <doctest/doctest.h>

#include <limits>
#include <random>

using namespace ood;

namespace {

using Set = ReportScores::Set;

/// A report with the metrics of these scores, as evaluate() makes it.
Report report_of(std::vector<ReportScores> scores, const std::string& fingerprint = "") {
  Report report{.file = "f.h5",
                .model = "",
                .id_dataset = "",
                .version = "1.2.3",
                .id_accuracy = 0.9,
                .rows = {},
                .timings = {},
                .left_out = {{"vim", "no labels in /train"}}};
  for (const ReportScores& one : scores) {
    report.timings.push_back({.detector = one.detector, .options = one.options});
    for (const Set& set : one.sets)
      report.rows.push_back({.detector = one.detector,
                             .options = one.options,
                             .dataset = set.dataset,
                             .kind = "far",
                             .n_id = std::ssize(one.id_test),
                             .n_ood = std::ssize(set.scores),
                             .metrics = compute_metrics(one.id_test, set.scores),
                             .auroc_interval = auroc_interval(one.id_test, set.scores)});
  }
  report.fingerprint = fingerprint;
  report.scores = std::move(scores);
  return report;
}

Report small_report() {
  return report_of({{"knn", {}, {3, 4, 5, 6}, {{"a.b", {1, 2, 5}}, {"c", {0, 1, 7}}}}}, "same");
}

RequirementCheck check(const Report& report, const char* text) {
  return gate(report, {.requirements = {parse_requirement(text)}}).requirements.front();
}

std::string error_of(const Report& report, const GateOptions& options) {
  try {
    gate(report, options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of(const Report& report, const char* text) {
  return error_of(report, {.requirements = {parse_requirement(text)}});
}

std::string parse_error(const char* text) {
  try {
    parse_requirement(text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

/// n normal numbers around `mean`; `shared` of their variance is that of `common`.
std::vector<double> draw(std::mt19937_64& random, double mean, const std::vector<double>& common,
                         double shared) {
  std::normal_distribution<double> normal;
  std::vector<double> drawn;
  for (const double value : common)
    drawn.push_back(mean + std::sqrt(shared) * value + std::sqrt(1 - shared) * normal(random));
  return drawn;
}

struct Pair {
  Report before, now;
};

/// Two detectors on two sets of n rows, before and now: the same true AUROC, but for what `shift` adds to
/// the outliers of the first set for the first detector. Rows share `shared` of their variance between
/// before and now, and detectors share rows.
Pair draw_pair(std::uint64_t seed, std::size_t n, double shared, double shift) {
  std::mt19937_64 random(seed);
  const std::vector<double> none(n, 0.);
  std::vector<std::vector<double>> common;  // of id_test and the sets
  for (int i = 0; i < 3; ++i) common.push_back(draw(random, 0, none, 0));
  std::vector<ReportScores> before, now;
  for (const char* name : {"knn", "energy"})
    for (auto* scores : {&before, &now}) {
      const double more = scores == &now && before.size() == 1 ? shift : 0;
      scores->push_back({name,
                         {},
                         draw(random, 1.5, common[0], shared),
                         {{"a", draw(random, more, common[1], shared)},
                          {"b", draw(random, 0, common[2], shared)}}});
    }
  return {report_of(std::move(before)), report_of(std::move(now))};
}

/// The share of runs that fail.
double failing_runs(int runs, std::size_t n, double shared, double shift, double max_drop,
                    bool same_rows = true) {
  int failed = 0;
  for (int run = 0; run < runs; ++run) {
    const Pair pair = draw_pair(static_cast<std::uint64_t>(run), n, shared, shift);
    const Baseline baseline = make_baseline(pair.before);
    const GateResult result =
        gate(pair.now, {.baseline = &baseline, .max_drop = max_drop, .same_rows = same_rows});
    failed += result.holds() ? 0 : 1;
  }
  return static_cast<double>(failed) / runs;
}

}  // namespace

TEST_CASE("gate: a requirement is read as it is written, sets with dots too") {
  const Requirement plain = parse_requirement(" knn.a.b.fpr95<0.25 ");
  CHECK(plain.text == "knn.a.b.fpr95<0.25");
  CHECK(plain.detector == "knn");
  CHECK(plain.set == "a.b");
  CHECK(plain.metric == "fpr95");
  CHECK(plain.op == "<");
  CHECK(plain.bound == 0.25);
  CHECK(plain.of == Requirement::Of::value);
  CHECK(parse_requirement("knn.a<b.auroc >= 1").set == "a<b");
  CHECK(parse_requirement("knn.far.auroc.lo95 >= 0").of == Requirement::Of::low);
  CHECK(parse_requirement("knn.far.auroc.hi95 > 0").name() == "knn.far.auroc.hi95");
  CHECK(parse_requirement("id_accuracy>=0.5").name() == "id_accuracy");
}

TEST_CASE("gate: what is no requirement is said so") {
  CHECK(parse_error("") == "requirement '': has no comparison, expected one of >=, >, <=, <");
  CHECK(parse_error("knn.far.auroc = 0.9") ==
        "requirement 'knn.far.auroc = 0.9': has no comparison, expected one of >=, >, <=, <");
  for (const char* bound : {"93", "-0.1", "nan", "inf", "0.9x", "", "90%"}) {
    const std::string text = std::string("knn.far.auroc >") + bound;
    CHECK_MESSAGE(
        parse_error(text.c_str()).find("expected a share from 0 to 1") != std::string::npos, text);
  }
  for (const char* name : {"", "knn", "knn.auroc", "knn..auroc", ".far.auroc", "id_accuracy.lo95"})
    CHECK_MESSAGE(parse_error((std::string(name) + " > 0.5").c_str())
                          .find("expected <detector>.<set>.<metric>") != std::string::npos,
                  name);
  CHECK(parse_error("knn.far.auorc > 0.5") ==
        "requirement 'knn.far.auorc > 0.5': unknown metric 'auorc', did you mean auroc?");
  CHECK(parse_error("knn.far.x > 0.5")
            .ends_with(
                "expected one of auroc, fpr95, fpr95_ood, aupr_in, aupr_out, aupr_in_trapezoid, "
                "aupr_out_trapezoid"));
}

TEST_CASE("gate: requirements are met as the operator says") {
  const Report report = small_report();
  // ID {3, 4, 5, 6} against {1, 2, 5}: 4 + 4 + 1.5 of 12 pairs
  const double auroc = 9.5 / 12;
  CHECK(check(report, "knn.a.b.auroc >= 0.79").got == doctest::Approx(auroc).epsilon(1e-15));
  CHECK(check(report, "knn.a.b.auroc >= 0.79").holds);
  CHECK_FALSE(check(report, "knn.a.b.auroc >= 0.8").holds);
  CHECK(check(report, "knn.a.b.auroc <= 0.8").holds);
  CHECK_FALSE(check(report, "knn.a.b.auroc < 0.79").holds);
  CHECK(check(report, "id_accuracy >= 0.9").holds);
  CHECK_FALSE(check(report, "id_accuracy > 0.9").holds);
  // accepting all ID accepts 5 alone of the outliers
  CHECK(check(report, "knn.a.b.fpr95 <= 0.3333333333333334").holds);
  CHECK_FALSE(check(report, "knn.a.b.fpr95 < 0.3333333333333333").holds);
}

TEST_CASE("gate: ends of intervals are DeLong's for auroc, the bootstrap's for others") {
  const Report report = small_report();
  const ReportScores& scores = report.scores.front();
  const Interval delong = *report.rows[0].auroc_interval;
  CHECK(check(report, "knn.a.b.auroc.lo95 >= 0").got == delong.low);
  CHECK(check(report, "knn.a.b.auroc.hi95 >= 0").got == delong.high);
  const MetricIntervals drawn = bootstrap_intervals(scores.id_test, scores.sets[0].scores);
  const auto high = check(report, "knn.a.b.fpr95.hi95 <= 1");
  CHECK(high.got == drawn.fpr.high);
  CHECK(high.interval->low == drawn.fpr.low);
  CHECK(check(report, "knn.a.b.aupr_out_trapezoid.lo95 <= 1").got == drawn.aupr_out_trapezoid.low);
  CHECK(check(report, "knn.a.b.fpr95_ood.hi95 <= 1").got == drawn.fpr_ood.high);
  CHECK_FALSE(check(report, "knn.a.b.fpr95 <= 1").interval.has_value());  // it holds
  CHECK(check(report, "knn.a.b.fpr95 <= 0").interval->high == drawn.fpr.high);
}

TEST_CASE("gate: what cannot be checked is an error, not a pass") {
  Report report = small_report();
  CHECK(error_of(report, "knm.c.auroc > 0") ==
        "requirement 'knm.c.auroc > 0': unknown detector 'knm', did you mean knn?");
  CHECK(error_of(report, "vim.c.auroc > 0") ==
        "requirement 'vim.c.auroc > 0': vim was left out: no labels in /train");
  CHECK(error_of(report, "knn.a,b.auroc > 0") ==
        "requirement 'knn.a,b.auroc > 0': f.h5 has no set 'a,b', did you mean a.b?");
  CHECK(error_of(report, "knn.far.auroc > 0").find("has no set 'far'") != std::string::npos);

  report.means = {{"knn", {}, "far", 2, report.rows[0].metrics, {}}};
  CHECK(check(report, "knn.far.auroc > 0").holds);
  CHECK(
      error_of(report, "knn.far.auroc.lo95 > 0") ==
      "requirement 'knn.far.auroc.lo95 > 0': there is no interval, expected two rows or more of a "
      "kind");
  CHECK(error_of(report, "knn.far.fpr95.hi95 < 1") ==
        "requirement 'knn.far.fpr95.hi95 < 1': a mean over sets has an interval of auroc alone, "
        "expected auroc or one set");
  report.rows[0].dataset = "far";
  CHECK(error_of(report, "knn.far.auroc > 0") ==
        "requirement 'knn.far.auroc > 0': far is a set and the mean over others, expected one "
        "meaning");

  report.rows[1].metrics.auroc = std::numeric_limits<double>::quiet_NaN();
  CHECK(error_of(report, "knn.c.auroc > 0") ==
        "requirement 'knn.c.auroc > 0': got NaN, expected a number");
  report.id_accuracy = {};
  CHECK(error_of(report, "id_accuracy > 0").find("the accuracy is not known") != std::string::npos);
  report.means.clear();
  report.scores.clear();
  CHECK(error_of(report, "knn.c.fpr95.hi95 < 1").find("no scores of knn") != std::string::npos);
  Requirement odd = parse_requirement("knn.a.b.fpr95 > 0");
  odd.op = "=";
  odd.set = "far";
  CHECK(error_of(report, {.requirements = {odd}}) ==
        "gate: a comparison is '=', expected one of >=, >, <=, <");
  CHECK(error_of(report, {.max_drop = -1}) == "gate: max_drop is -1, expected a share in [0, 1]");
}

TEST_CASE("gate: Holm's p-values are those of R's p.adjust") {
  // p.adjust(c(...), "holm")
  const std::vector<double> p = {0.03, 0.01, 0.04, 0.005, 0.5};
  const std::vector<double> expected = {0.09, 0.04, 0.09, 0.025, 0.5};
  const auto adjusted = holm_adjusted(p);
  for (std::size_t i = 0; i < p.size(); ++i)
    CHECK(adjusted[i] == doctest::Approx(expected[i]).epsilon(1e-12));
  CHECK(holm_adjusted(std::vector<double>{0.6, 0.7}) == std::vector<double>{1, 1});
  CHECK(holm_adjusted({}).empty());
  for (const double bad : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(holm_adjusted(std::vector<double>{bad}), std::invalid_argument);
}

TEST_CASE("gate: rows are paired where the file is the same, or said to have the same rows") {
  const Report report = small_report();
  Baseline baseline = make_baseline(report);
  CHECK(gate(report, {.baseline = &baseline}).paired);
  baseline.fingerprint = "other";
  CHECK_FALSE(gate(report, {.baseline = &baseline}).paired);
  CHECK(gate(report, {.baseline = &baseline, .same_rows = true}).paired);
  baseline.fingerprint = "";  // not known: not the same
  Report unknown = report;
  unknown.fingerprint = "";
  CHECK_FALSE(gate(unknown, {.baseline = &baseline}).paired);

  baseline.scores[0].sets[1].scores.push_back(3);
  CHECK(error_of(report, {.baseline = &baseline, .same_rows = true}) ==
        "baseline: knn has 4 rows of c, expected 3 as in the file: rows are not the same");
  CHECK(gate(report, {.baseline = &baseline}).drops.size() == 2);
}

TEST_CASE("gate: what the baseline has must be there; what it lacks is noted") {
  Report report = small_report();
  Baseline baseline = make_baseline(report);
  baseline.scores[0].sets.erase(baseline.scores[0].sets.begin());
  baseline.scores[0].options["k"] = Index{3};
  report.scores.push_back({"energy", {}, {1, 2}, {{"c", {0, 1}}}});
  report.timings.push_back({.detector = "energy", .options = {}});
  const GateResult result = gate(report, {.baseline = &baseline});
  CHECK(result.drops.size() == 1);
  CHECK(result.holds());
  CHECK(result.notes ==
        std::vector<std::string>{"knn runs with no options; in the baseline with k=3",
                                 "knn on a.b is not in the baseline: not compared",
                                 "energy is not in the baseline: not compared"});
  baseline.scores[0].sets[0].dataset = "d";
  CHECK(error_of(report, {.baseline = &baseline}) ==
        "baseline: f.h5 has no set 'd', did you mean c?");
  baseline.scores[0].detector = "vim";
  CHECK(error_of(report, {.baseline = &baseline}) ==
        "baseline: vim was left out: no labels in /train");
}

TEST_CASE("gate: noise fails no more runs than 5 %, though nothing may be lost") {
  // 4 comparisons, no true drop. Up to 3 standard errors more than 0.05.
  const double paired = failing_runs(3000, 200, 0.7, 0, 0);
  CHECK(paired <= 0.062);
  CHECK(paired >= 0.03);  // no more careful than it has to be
  const double unpaired = failing_runs(1000, 200, 0, 0, 0, false);
  CHECK(unpaired <= 0.071);
  CHECK(unpaired >= 0.02);
  // An AUROC that may drop fails more rarely still.
  CHECK(failing_runs(300, 200, 0.7, 0, 0.05) < 0.02);
}

TEST_CASE("gate: a real drop of 0.02 fails") {
  // AUROC = Phi(1.5 / sqrt 2) = 0.8556; with outliers 0.1226 higher Phi(1.3774 / sqrt 2) = 0.8350
  CHECK(failing_runs(40, 3000, 0.7, 0.1226, 0.005) == 1);
  CHECK(failing_runs(40, 3000, 0.7, 0.1226, 0.04) == 0);         // allowed
  CHECK(failing_runs(40, 3000, 0.7, 0.1226, 0.005, false) < 1);  // what pairing is for
}

TEST_CASE("gate: results are written for people and for machines") {
  Report report = small_report();
  report.rows[1].dataset = "a|b&<\"'>\x01\xff";
  report.scores[0].sets[1].dataset = report.rows[1].dataset;
  Requirement hostile = parse_requirement("knn.c.auroc >= 1");
  hostile.set = report.rows[1].dataset;
  const Baseline baseline = make_baseline(report);
  const GateResult result =
      gate(report, {.requirements = {parse_requirement("knn.a.b.auroc >= 0.5"), hostile},
                    .baseline = &baseline});
  CHECK(result.checks() == 4);
  CHECK(result.failed() == 1);
  const std::string xml = to_junit(result);
  CHECK(xml.find("tests=\"4\" failures=\"1\"") != std::string::npos);
  CHECK(xml.find("knn.a|b&amp;&lt;&quot;&apos;&gt;?\xEF\xBF\xBD.auroc &gt;= 1\"") !=
        std::string::npos);
  const std::string table = to_table(result);
  CHECK(table.find("f.h5: 1 of 4 checks failed\n") == 0);
  CHECK(table.find(
            "\nfailed: knn.a|b&<\"'>?\xff.auroc: required >= 1, got 0.666667, 95 % interval [") !=
        std::string::npos);
  CHECK(to_markdown(result).find("a\\|b&") != std::string::npos);
  CHECK(to_json(result).find("\"holds\": false") != std::string::npos);
}
