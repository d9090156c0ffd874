#include <doctest/doctest.h>

#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ood/report.h"

using namespace ood;
using nlohmann::json;

namespace {

Report small_report() {
  Report report{.file = "x.h5",
                .model = "net",
                .id_dataset = "cifar10",
                .version = "1.2.3",
                .id_accuracy = 0.9375,
                .rows = {},
                .timings = {},
                .left_out = {{"knn", "no /train"}}};
  const OptionMap options = {{"temperature", 1.5}};
  const auto row = [&](const char* dataset, const char* kind, double auroc) {
    report.rows.push_back({"energy",
                           options,
                           dataset,
                           kind,
                           100,
                           50,
                           {.auroc = auroc, .fpr95 = 0.25, .fpr95_ood = 0.5}});
  };
  row("svhn", "far", 0.5);
  row("cifar100", "near", 0.75);
  row("tricky, \"name\"", "far", 1.0);
  row("unknown", "", 0.125);
  report.rows[0].auroc_interval = {.value = 0.5, .low = 0.375, .high = 0.625};
  report.means.push_back({"energy", options, "near", 1, {.auroc = 0.75, .fpr95 = 0.25}, {}});
  report.means.push_back({"energy",
                          options,
                          "far",
                          2,
                          {.auroc = 0.75, .fpr95 = 0.25},
                          Interval{.value = 0.75, .low = 0.6875, .high = 0.8125}});
  report.timings.push_back({"energy", options, "", false, 0.5, 1.25, 250});
  return report;
}

/// What a search over two options found, and what the fit that followed says of itself.
Report searched_report() {
  Report report = small_report();
  const auto point = [](double p, const char* gradient, double mixed, double left_out) {
    return SearchPoint{.options = {{"gradient", std::string(gradient)}, {"p", p}},
                       .value = (mixed + left_out) / 2,
                       .parts = {{"mixed", mixed}, {"classes_left_out", left_out}}};
  };
  SearchResult search;
  search.detector = "conjnorm";
  search.criterion = Criterion::pseudo_ood;
  search.curve = {point(1.5, "paper", 0.5, 0.25), point(2.5, "paper", 0.75, 1.0),
                  point(2.5, "published_code", 1.0, 0.75)};
  search.best = search.curve[1];
  search.best.warnings = search.curve[1].warnings = {"careful"};
  search.fit = {"x.h5: /train", 90};
  search.id = {"x.h5: /train", 10};
  search.outliers = {{"mixed rows of x.h5: /train", 10}, {"classes left out of x.h5: /train", 9}};
  report.searches.push_back(search);
  report.fits.push_back({"conjnorm",
                         {{"p", 2.5}, {"priors", std::vector<double>{0.25, 0.75}}},
                         {.values = {{"proposal", std::string("gaussian")}, {"samples", Index{64}}},
                          .per_class = {{"rows", {40, 60}}, {"log_phi", {-1.5, 0.123456789}}},
                          .warnings = {"cannot be trusted"}}});
  return report;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("report: JSON has every documented key and value") {
  const json root = json::parse(to_json(small_report()));
  CHECK(root["file"] == "x.h5");
  CHECK(root["model"] == "net");
  CHECK(root["id_dataset"] == "cifar10");
  CHECK(root["version"] == "1.2.3");
  CHECK(root["id_accuracy"] == 0.9375);
  REQUIRE(root["rows"].size() == 4);
  const json row = root["rows"][0];
  CHECK(row["detector"] == "energy");
  CHECK(row["options"] == json{{"temperature", 1.5}});
  CHECK(row["dataset"] == "svhn");
  CHECK(row["kind"] == "far");
  CHECK(row["n_id"] == 100);
  CHECK(row["n_ood"] == 50);
  CHECK(row["auroc"] == 0.5);
  CHECK(row["fpr95"] == 0.25);
  CHECK(row["fpr95_ood"] == 0.5);
  for (const char* name : {"aupr_in", "aupr_out", "aupr_in_trapezoid", "aupr_out_trapezoid"})
    CHECK(row.contains(name));
  CHECK(row["auroc_low"] == 0.375);
  CHECK(row["auroc_high"] == 0.625);
  CHECK(root["rows"][1]["auroc_low"].is_null());
  CHECK(root["rows"][1]["auroc_high"].is_null());
  CHECK(root["means"][0]["auroc_low"].is_null());
  CHECK(root["means"][1]["auroc_low"] == 0.6875);
  CHECK(root["means"][1]["auroc_high"] == 0.8125);
  CHECK(root["means"][1]["kind"] == "far");
  CHECK(root["means"][1]["auroc"] == 0.75);
  CHECK(root["means"][1]["datasets"] == 2);
  CHECK(root["timings"][0]["fit_seconds"] == 0.5);
  CHECK(root["timings"][0]["fitted_on"] == "");
  CHECK(root["timings"][0]["fell_back"] == false);
  CHECK(root["timings"][0]["score_seconds"] == 1.25);
  CHECK(root["timings"][0]["scored_rows"] == 250);
  CHECK(root["left_out"][0] == json{{"detector", "knn"}, {"reason", "no /train"}});
}

TEST_CASE("report: JSON without labels has a null accuracy; bytes that are no UTF-8 do no harm") {
  Report report = small_report();
  report.id_accuracy.reset();
  report.model = "\xff\xfe";
  const json root = json::parse(to_json(report));
  CHECK(root["id_accuracy"].is_null());
}

TEST_CASE("report: CSV quotes what must be quoted") {
  std::istringstream csv(to_csv(small_report()));
  std::string line;
  std::getline(csv, line);
  CHECK(line ==
        "detector,options,dataset,kind,n_id,n_ood,auroc,fpr95,fpr95_ood,aupr_in,aupr_out,"
        "aupr_in_trapezoid,aupr_out_trapezoid,auroc_low,auroc_high");
  std::getline(csv, line);
  CHECK(line == "energy,temperature=1.5,svhn,far,100,50,0.5,0.25,0.5,0,0,0,0,0.375,0.625");
  std::getline(csv, line);
  CHECK(line == "energy,temperature=1.5,cifar100,near,100,50,0.75,0.25,0.5,0,0,0,0,,");
  std::getline(csv, line);
  CHECK(line.starts_with("energy,temperature=1.5,\"tricky, \"\"name\"\"\",far,"));
}

TEST_CASE("report: a split that is not there, and what was taken for it, is said below the table") {
  Report report = small_report();
  CHECK_FALSE(contains(to_table(report), "Fitted on"));
  report.timings[0].fitted_on = "train";
  report.timings[0].fell_back = true;
  CHECK(contains(to_table(report), "\nFitted on /train, as there is no /id_val: energy\n"));
}

TEST_CASE("report: table and Markdown show percent, means and seconds") {
  const std::string table = to_table(small_report());
  CHECK(table.find("x.h5: net, in-distribution cifar10, 100 test rows, accuracy 93.75 %") == 0);
  CHECK(table.find("near mean  far mean  fit s  score s") != std::string::npos);
  std::istringstream line(table.substr(table.find("\nenergy ")));
  const std::vector<std::string> cells{std::istream_iterator<std::string>(line), {}};
  REQUIRE(cells.size() > 9);
  CHECK(std::vector(cells.begin(), cells.begin() + 9) ==
        std::vector<std::string>{"energy", "50.00", "75.00", "100.00", "12.50", "75.00", "75.00",
                                 "0.50", "1.25"});
  Report odd = small_report();
  odd.rows[0].dataset = "a|b\n\x1b[31m";
  odd.model = "x\ny";
  CHECK(to_markdown(odd).find(" a\\|b??[31m |") != std::string::npos);
  CHECK(to_table(odd).find("x.h5: x?y,") == 0);
  const std::string markdown = to_markdown(small_report());
  CHECK(markdown.find("\n| AUROC % |") != std::string::npos);
  CHECK(markdown.find("\n|:--------|") != std::string::npos);
}

TEST_CASE("report: two detectors of one name are told apart by their options") {
  Report report = small_report();
  const OptionMap other = {{"temperature", 10.0}};
  for (int i = 0; i < 4; ++i) {
    ReportRow row = report.rows[static_cast<std::size_t>(i)];
    row.options = other;
    row.metrics.auroc = 0.0;
    report.rows.push_back(row);
  }
  report.means.push_back({"energy", other, "near", 1, {.auroc = 0.0}, {}});
  report.means.push_back({"energy", other, "far", 2, {.auroc = 0.0625}, {}});
  report.timings.push_back({"energy", other, "", false, 0, 0, 250});
  const std::string table = to_table(report);
  CHECK(table.find("energy (temperature=1.5)") != std::string::npos);
  CHECK(table.find("energy (temperature=10)") != std::string::npos);
  CHECK(contains(table, "      75.00     75.00   0.50"));  // each its own means
  CHECK(contains(table, "       0.00      6.25   0.00"));
}

TEST_CASE("report: JSON has fits and searches whole") {
  const json none = json::parse(to_json(small_report()));
  CHECK(none["fits"] == json::array());
  CHECK(none["searches"] == json::array());

  const json root = json::parse(to_json(searched_report()));
  REQUIRE(root["fits"].size() == 1);
  CHECK(root["fits"][0] ==
        json{{"detector", "conjnorm"},
             {"options", {{"p", 2.5}, {"priors", {0.25, 0.75}}}},
             {"values", {{"proposal", "gaussian"}, {"samples", 64}}},
             {"per_class", {{"rows", {40.0, 60.0}}, {"log_phi", {-1.5, 0.123456789}}}},
             {"warnings", {"cannot be trusted"}}});
  REQUIRE(root["searches"].size() == 1);
  const json search = root["searches"][0];
  CHECK(search["detector"] == "conjnorm");
  CHECK(search["criterion"] == "pseudo_ood");
  CHECK(search["fit"] == json{{"source", "x.h5: /train"}, {"rows", 90}});
  CHECK(search["id"] == json{{"source", "x.h5: /train"}, {"rows", 10}});
  CHECK(search["outliers"][1] == json{{"source", "classes left out of x.h5: /train"}, {"rows", 9}});
  CHECK(search["best"] == json{{"options", {{"gradient", "paper"}, {"p", 2.5}}},
                               {"value", 0.875},
                               {"parts", {{"mixed", 0.75}, {"classes_left_out", 1.0}}},
                               {"warnings", {"careful"}}});
  REQUIRE(search["curve"].size() == 3);
  CHECK(search["curve"][0]["value"] == 0.375);
  CHECK(search["curve"][0]["warnings"] == json::array());
  CHECK(search["curve"][2]["options"]["gradient"] == "published_code");
}

TEST_CASE("report: a value that is no number is null in JSON") {
  Report report = searched_report();
  report.searches[0].curve[0].value = std::nan("");
  CHECK(json::parse(to_json(report))["searches"][0]["curve"][0]["value"].is_null());
}

TEST_CASE("report: tables show the curve of a search, and what fits found if asked") {
  const Report report = searched_report();
  const std::string search =
      "\nSearch: conjnorm, fitted on 90 rows of /train, compared on 10 of /train, against 10 of "
      "mixed rows of /train, against 9 of classes left out of /train\n\n";
  CHECK(contains(to_table(report),
                 search +
                     "gradient          p  pseudo_ood   mixed  classes_left_out  best  warning\n"
                     "paper           1.5      0.3750  0.5000            0.2500\n"
                     "paper           2.5      0.8750  0.7500            1.0000     *        !\n"
                     "published_code  2.5      0.8750  1.0000            0.7500\n"
                     "\nbest: pseudo_ood = 0.8750 at gradient=paper, p=2.5\n"));
  CHECK(contains(
      to_markdown(report),
      search +
          "| gradient       |   p | pseudo_ood |  mixed | classes_left_out | best | warning |\n"
          "|:---------------|----:|-----------:|-------:|-----------------:|-----:|--------:|\n"
          "| paper          | 1.5 |     0.3750 | 0.5000 |           0.2500 |      |         |\n"));
  const std::string fit =
      "\nFit: conjnorm (p=2.5, priors=0.25,0.75)\nproposal = gaussian\nsamples = 64\n\n";
  CHECK(to_table(report, true) == to_table(report) + fit +
                                      "class  rows   log_phi\n"
                                      "0        40      -1.5\n"
                                      "1        60  0.123457\n");
  CHECK(to_markdown(report, true) == to_markdown(report) + fit +
                                         "| class | rows |  log_phi |\n"
                                         "|:------|-----:|---------:|\n"
                                         "| 0     |   40 |     -1.5 |\n"
                                         "| 1     |   60 | 0.123457 |\n");
  CHECK(to_csv(report) == to_csv(small_report()));
}

TEST_CASE("report: one part is no column; a report of a fit alone has no metrics") {
  Report report = searched_report();
  report.rows.clear();
  report.timings.clear();
  report.searches[0].criterion = Criterion::ood_val_fpr95;
  report.searches[0].best.parts.pop_back();
  for (SearchPoint& point : report.searches[0].curve) {
    point.parts.pop_back();
    point.warnings.clear();  // and no column of warnings where there are none
  }
  const std::string table = to_table(report, true);
  CHECK(contains(table, "\ngradient          p  ood_val_fpr95  best\n"));
  CHECK_FALSE(contains(table, "AUROC"));
  CHECK_FALSE(contains(to_markdown(report), "FPR95 %"));
  report.searches.clear();
  CHECK(to_table(report, true)
            .starts_with("x.h5: net, in-distribution cifar10, accuracy 93.75 %\n\nFit: conjnorm"));
}

namespace {

Report drawn_report() {
  Report report = small_report();
  report.fingerprint = "99aa06d3014798d86001c324468d497f";
  for (const ReportRow& row : report.rows)
    report.curves.push_back({row.detector,
                             row.options,
                             row.dataset,
                             {{0, 0}, {0.25, 0.123456789}, {1, 1}},
                             {.low = -1.5, .high = 100000.125, .id = {100, 0}, .ood = {20, 30}}});
  report.agreement = MatrixD::Constant(1, 1, 1.0);
  return report;
}

/// What lies in the page for its script, as text.
std::string embedded_in(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">", end = "</script>";
  const auto at = page.find(begin) + begin.size();
  return page.substr(at, page.find(end, at) - at);
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("report: JSON has curves, agreement and fingerprint where they were asked for") {
  for (const char* name : {"curves", "agreement", "fingerprint"})
    CHECK_FALSE(json::parse(to_json(small_report())).contains(name));

  Report report = drawn_report();
  report.agreement(0, 0) = std::nan("");
  const json root = json::parse(to_json(report));
  CHECK(root["fingerprint"] == "99aa06d3014798d86001c324468d497f");
  REQUIRE(root["curves"].size() == 4);
  CHECK(root["curves"][1] ==
        json{{"detector", "energy"},
             {"options", {{"temperature", 1.5}}},
             {"dataset", "cifar100"},
             {"roc", {{"fpr", {0.0, 0.25, 1.0}}, {"tpr", {0.0, 0.123456789, 1.0}}}},
             {"histogram",
              {{"low", -1.5}, {"high", 100000.125}, {"id", {100, 0}}, {"ood", {20, 30}}}}});
  CHECK(root["agreement"] == json::array({json::array({nullptr})}));
}

TEST_CASE("report: the page holds the whole report, with rates rounded to what can be drawn") {
  const Report report = drawn_report();
  const std::string page = to_html(report);
  CHECK(page.starts_with("<!DOCTYPE html>"));
  CHECK(page.ends_with("</html>\n"));
  json want = json::parse(to_json(report));
  for (json& curve : want["curves"]) curve["roc"]["tpr"][1] = 0.12346;
  CHECK(json::parse(embedded_in(page)) == want);
  CHECK(contains(page, "Released under the MIT License"));  // the notice of Chart.js
  for (const char* mark : {"<!--css-->", "<!--js-->", "<!--data-->", "<!--chart.js-->"})
    CHECK_FALSE(contains(page, mark));
  const std::string plain = to_html(small_report());
  CHECK(json::parse(embedded_in(plain)) == json::parse(to_json(small_report())));
}

TEST_CASE("report: names out of a file cannot end the script that holds them") {
  const std::string hostile = "</script><script>alert(1)</script><!--<script>";
  Report report = drawn_report();
  report.model = report.id_dataset = report.file = hostile;
  for (ReportRow& row : report.rows) row.dataset = hostile;
  for (ReportCurve& curve : report.curves) curve.dataset = hostile;
  report.left_out[0].reason = hostile;
  const std::string page = to_html(report), harmless = to_html(drawn_report());
  for (const char* markup : {"<script", "</script", "<!--"})
    CHECK(count(page, markup) == count(harmless, markup));
  CHECK_FALSE(contains(embedded_in(page), "<"));
  CHECK(json::parse(embedded_in(page))["model"] == hostile);
}

namespace {

/// The first two sets and the means from counts in bins, the others exact.
Report binned_report() {
  Report report = small_report();
  const auto around = [](Metrics value, double auroc, double fpr95) {
    MetricBounds bounds{value, value};
    bounds.low.auroc -= auroc;
    bounds.high.auroc += auroc / 2;
    bounds.low.fpr95 -= fpr95;
    return bounds;
  };
  report.rows[0].bounds = around(report.rows[0].metrics, 0x1p-15, 0);
  report.rows[1].bounds = around(report.rows[1].metrics, 0x1p-16, 0x1p-10);
  for (ReportMean& mean : report.means) mean.bounds = around(mean.metrics, 0x1p-14, 0);
  return report;
}

}  // namespace

TEST_CASE("report: JSON has bounds where metrics are of counts in bins, and there alone") {
  const json exact = json::parse(to_json(small_report())),
             root = json::parse(to_json(binned_report()));
  CHECK_FALSE(exact["rows"][0].contains("bounds"));
  CHECK_FALSE(exact["means"][0].contains("bounds"));
  CHECK(root["rows"][1]["bounds"] == json{{"auroc", {0.75 - 0x1p-16, 0.75 + 0x1p-17}},
                                          {"fpr95", {0.25 - 0x1p-10, 0.25}},
                                          {"fpr95_ood", {0.5, 0.5}},
                                          {"aupr_in", {0.0, 0.0}},
                                          {"aupr_out", {0.0, 0.0}},
                                          {"aupr_in_trapezoid", {0.0, 0.0}},
                                          {"aupr_out_trapezoid", {0.0, 0.0}}});
  CHECK_FALSE(root["rows"][2].contains("bounds"));
  CHECK(root["means"][0]["bounds"]["auroc"] == json{0.75 - 0x1p-14, 0.75 + 0x1p-15});
  json rest = root;
  for (const char* list : {"rows", "means"})
    for (json& object : rest[list]) object.erase("bounds");
  CHECK(rest == exact);
}

TEST_CASE("report: CSV has columns of bounds where a row has them") {
  std::istringstream csv(to_csv(binned_report())), exact(to_csv(small_report()));
  std::string line, without;
  std::getline(csv, line);
  std::getline(exact, without);
  CHECK(line == without +
                    ",auroc_bound_low,auroc_bound_high,fpr95_bound_low,fpr95_bound_high,"
                    "fpr95_ood_bound_low,fpr95_ood_bound_high,aupr_in_bound_low,aupr_in_bound_high,"
                    "aupr_out_bound_low,aupr_out_bound_high,aupr_in_trapezoid_bound_low,"
                    "aupr_in_trapezoid_bound_high,aupr_out_trapezoid_bound_low,"
                    "aupr_out_trapezoid_bound_high");
  std::getline(csv, line);
  std::getline(exact, without);
  CHECK(line ==
        without + ",0.499969482421875,0.5000152587890625,0.25,0.25,0.5,0.5,0,0,0,0,0,0,0,0");
  std::getline(csv, line);
  std::getline(csv, line);
  std::getline(exact, without);
  std::getline(exact, without);
  CHECK(line == without + ",,,,,,,,,,,,,,");
}

TEST_CASE("report: tables say which sets are of counts in bins, and how far off at most") {
  const std::string note =
      "\nFrom counts of scores in bins: svhn, cifar100; AUROC % is within +-0.0031, FPR95 % within "
      "+-0.098\n";
  CHECK(to_table(binned_report()) == to_table(small_report()) + note);
  CHECK(to_markdown(binned_report()) == to_markdown(small_report()) + note);
  Report odd = binned_report();
  odd.rows[0].dataset = "a\n\x1b[31m";
  CHECK(contains(to_table(odd), "in bins: a??[31m, cifar100;"));
}

TEST_CASE("report: the page holds the bounds") {
  const json data = json::parse(embedded_in(to_html(binned_report())));
  CHECK(data == json::parse(to_json(binned_report())));
  CHECK(data["rows"][0]["bounds"]["auroc"][0] == 0.5 - 0x1p-15);
}
