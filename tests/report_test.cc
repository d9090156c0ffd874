#include <doctest/doctest.h>

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
  report.timings.push_back({"energy", options, 0.5, 1.25, 250});
  return report;
}

}  // namespace

TEST_CASE("report: means are over the sets of a kind, sets without one are in none") {
  const auto means = small_report().means();
  REQUIRE(means.size() == 2);
  CHECK(means[0].kind == "near");
  CHECK(means[0].datasets == 1);
  CHECK(means[0].metrics.auroc == 0.75);
  CHECK(means[1].kind == "far");
  CHECK(means[1].datasets == 2);
  CHECK(means[1].metrics.auroc == 0.75);
  CHECK(means[1].metrics.fpr95 == 0.25);
}

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
  CHECK(root["means"][1]["datasets"] == 2);
  CHECK(root["timings"][0]["fit_seconds"] == 0.5);
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
        "aupr_in_trapezoid,aupr_out_trapezoid");
  std::getline(csv, line);
  CHECK(line == "energy,temperature=1.5,svhn,far,100,50,0.5,0.25,0.5,0,0,0,0");
  std::getline(csv, line);
  std::getline(csv, line);
  CHECK(line.starts_with("energy,temperature=1.5,\"tricky, \"\"name\"\"\",far,"));
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
  report.timings.push_back({"energy", other, 0, 0, 250});
  const std::string table = to_table(report);
  CHECK(table.find("energy (temperature=1.5)") != std::string::npos);
  CHECK(table.find("energy (temperature=10)") != std::string::npos);
  CHECK(report.means().size() == 4);
  CHECK(report.means()[2].metrics.auroc == 0.0);
}
