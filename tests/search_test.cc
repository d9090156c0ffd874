// What a grid and a golden section find, against single fits and metrics counted pair by pair.
#include <doctest/doctest.h>

#include "ood/serialize.h"
#include "search_probe.h"

using namespace ood;
using namespace ood::test;

// --- Grids --------------------------------------------------------------------------------------

TEST_CASE(
    "search: each point of a grid has the value of a single fit; the first of equals is best") {
  const SearchAxis k = {"k", {Index{1}, Index{5}, Index{40}, Index{5}}};
  const SearchAxis temperature = {"temperature", {0.25, 1.0, 8.0, 1.0}};
  for (const std::string name : {"knn", "energy"})
    for (const bool low : {false, true}) {
      CAPTURE(name);
      CAPTURE(low);
      const SearchAxis& axis = name == "knn" ? k : temperature;
      MemorySource source(train().batch(), &train().head), val(id_val().batch(), &train().head),
          first(near().batch(), &train().head), second(far().batch(), &train().head);
      const SearchSpec spec = {
          .grid = {axis}, .criterion = low ? Criterion::ood_val_fpr95 : Criterion::ood_val_auroc};
      const auto detector = make_detector(name);
      const auto result = search(
          *detector, spec,
          {.train = source, .id_val = &val, .ood_val = {{"near", &first}, {"far", &second}}});

      CHECK(result.detector == name);
      CHECK(result.criterion == spec.criterion);
      CHECK(result.fit.rows == 300);
      CHECK(result.id.rows == 120);
      REQUIRE(result.outliers.size() == 2);
      CHECK(result.outliers[0].rows == 70);
      CHECK(result.outliers[1].rows == 90);
      REQUIRE(result.curve.size() == axis.values.size());
      std::vector<double> expected;
      for (std::size_t i = 0; i < axis.values.size(); ++i) {
        const OptionMap options = {{axis.option, axis.values[i]}};
        const auto id = scores_of(name, options, id_val().batch()),
                   a = scores_of(name, options, near().batch()),
                   b = scores_of(name, options, far().batch());
        const double value_a = low ? counted_fpr95(id, a) : counted_auroc(id, a),
                     value_b = low ? counted_fpr95(id, b) : counted_auroc(id, b);
        expected.push_back((value_a + value_b) / 2);
        const SearchPoint& point = result.curve[i];
        CHECK((point.options == options));
        CHECK(point.value == doctest::Approx(expected.back()).epsilon(1e-12));
        REQUIRE(point.parts.size() == 2);
        CHECK(part(point, "near") == doctest::Approx(value_a).epsilon(1e-12));
        CHECK(part(point, "far") == doctest::Approx(value_b).epsilon(1e-12));
      }
      const auto best =
          low ? std::ranges::min_element(expected) : std::ranges::max_element(expected);
      CHECK(result.best.value == doctest::Approx(*best).epsilon(1e-12));
      CHECK((result.best.options ==
             result.curve[static_cast<std::size_t>(best - expected.begin())].options));
    }
}

TEST_CASE("search: several axes give every combination, the last one fastest, however many") {
  Probe probe;
  SearchSpec spec = {.criterion = Criterion::ood_val_auroc};
  spec.grid = {{"upside_down", {false, true}}, {"x", {}}, {"idle", {Index{3}, Index{4}}}};
  for (int i = 0; i <= 20; ++i) spec.grid[1].values.emplace_back(i * 0.05);
  const auto result = PeakedData().search_in(probe, spec);
  REQUIRE(result.curve.size() == 84);
  std::size_t at = 0;
  for (const OptionValue& upside_down : spec.grid[0].values)
    for (const OptionValue& x : spec.grid[1].values)
      for (const OptionValue& idle : spec.grid[2].values) {
        const OptionMap expected = {{"upside_down", upside_down}, {"x", x}, {"idle", idle}};
        CHECK((result.curve[at].options == expected));
        const double share = 1 - std::abs(std::get<double>(x) - Probe::kPeak);
        CHECK(result.curve[at].value ==
              doctest::Approx(std::get<bool>(upside_down) ? 1 - share : share).epsilon(1e-3));
        const std::string warning = std::to_string(std::get<Index>(idle)) + " is idle";
        CHECK(result.curve[at].warnings == std::vector{warning});
        ++at;
      }
  CHECK(std::get<double>(result.best.options.at("x")) == doctest::Approx(0.7));
  CHECK(std::get<Index>(result.best.options.at("idle")) == 3);  // the first of equals
  CHECK(probe.record().fits.size() == 84);
}

TEST_CASE("search: a setting without numbers is never the best, and no error") {
  const PeakedData data;
  SearchSpec spec = {.grid = {{"broken", {true, false, true}}}};
  for (const Criterion criterion : {Criterion::ood_val_auroc, Criterion::ood_val_fpr95}) {
    spec.criterion = criterion;
    const auto result = data.search_in(Probe(), spec);
    CHECK(std::isnan(result.curve[0].value));
    CHECK_FALSE(std::isnan(result.curve[1].value));
    CHECK(std::get<bool>(result.best.options.at("broken")) == false);
  }
}

TEST_CASE("search: values may be text, and an axis may be the name of a preset") {
  MemorySource source(train().batch()), val(id_val().batch()), far_source(far().batch());
  const auto run = [&](const std::string& name, std::vector<SearchAxis> grid) {
    return search(*make_detector(name),
                  {.grid = std::move(grid), .criterion = Criterion::ood_val_auroc},
                  {.train = source, .id_val = &val, .ood_val = {{"far", &far_source}}});
  };
  const auto presets =
      run("conjnorm", {{"preset", {std::string("cifar10"), std::string("cifar100")}},
                       {"class_prior", {std::string("empirical")}}});
  REQUIRE(presets.curve.size() == 2);
  for (const SearchPoint& point : presets.curve)
    CHECK(point.value ==
          doctest::Approx(counted_auroc(scores_of("conjnorm", point.options, id_val().batch()),
                                        scores_of("conjnorm", point.options, far().batch()))));
  CHECK(std::get<std::string>(presets.curve[1].options.at("preset")) == "cifar100");
  const auto text =
      run("knn", {{"k", {std::string("5"), 7.0}}, {"normalize", {std::string("false")}}});
  const OptionMap own_types = {{"k", Index{7}}, {"normalize", false}};
  REQUIRE(text.curve.size() == 2);
  CHECK((text.curve[1].options == own_types));
}

TEST_CASE("search: id_likelihood is the mean log-likelihood of the in-distribution rows") {
  MemorySource source(train().batch()), val(id_val().batch());
  const auto result = search(*make_detector("conjnorm", {{"temperature", 0.3}}),
                             {.grid = {{"p", {1.5, 2.0, 3.0}}}}, {.train = source, .id_val = &val});
  REQUIRE(result.curve.size() == 3);
  CHECK(result.outliers.empty());
  double highest = -std::numeric_limits<double>::infinity(), best = 0;
  for (const SearchPoint& point : result.curve) {
    const double p = std::get<double>(point.options.at("p"));
    const auto scores = scores_of("conjnorm",
                                  {{"p", p},
                                   {"temperature", 0.3},
                                   {"partition", std::string("importance")},
                                   {"proposal", std::string("matched")},
                                   {"samples", Index{128}}},
                                  id_val().batch());
    double sum = 0;  // of S(x) + D log(|x|_2 / |x|_p)
    for (Index i = 0; i < 120; ++i) {
      const Eigen::ArrayXd x = id_val().features.row(i).cast<double>().array().abs();
      sum += scores[static_cast<std::size_t>(i)] +
             kDim * (std::log(x.square().sum()) / 2 - std::log(x.pow(p).sum()) / p);
    }
    CHECK(point.value == doctest::Approx(sum / 120).epsilon(1e-4));
    CHECK(point.parts.empty());
    if (sum > highest) best = p;
    highest = std::max(highest, sum);
  }
  CHECK(std::get<double>(result.best.options.at("p")) == best);
}

TEST_CASE("search: progress rises; the detector that is given stays as it is") {
  const auto detector = make_detector("knn", {{"k", Index{7}}});
  MemorySource source(train().batch());
  detector->fit(source);
  const auto before = to_bytes(*detector);
  const auto scores = detector->score(id_val().batch());
  double last = -1;
  SearchSpec spec = {.criterion = Criterion::pseudo_ood};
  spec.grid.push_back({"k", {}});
  for (Index k = 1; k <= 70; ++k) spec.grid[0].values.emplace_back(k);
  search(*detector, spec, {.train = source}, {}, [&](std::string_view step, double done) {
    CHECK(step == "search");
    CHECK(done > last);
    CHECK(done < 1);
    last = done;
  });
  CHECK(last > 0);
  CHECK(detector->fitted());
  CHECK((to_bytes(*detector) == before));
  CHECK(detector->score(id_val().batch()) == scores);

  const auto unfitted = make_detector("knn");
  search(*unfitted, spec, {.train = source});
  CHECK_FALSE(unfitted->fitted());
  CHECK(std::get<Index>(unfitted->options()[0].value) == 50);
}

namespace {

/// A density whose log-likelihood is its option x, and whose fit warns of every x above 0.5.
class Boaster final : public Detector {
 public:
  std::string_view name() const override { return "boaster"; }
  Needs needs() const override { return {.fit = {}, .score = {.features = true}}; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Boaster>(*this); }
  void visit(FieldVisitor& v) override { v.option("x", x_, Range{.min = 0, .max = 1}, "value"); }
  std::unique_ptr<Candidates> candidates(std::span<const OptionMap> settings,
                                         Quantity) const override {
    auto values = std::make_unique<Values>();
    for (const OptionMap& setting : settings)
      values->x.push_back(std::get<double>(setting.at("x")));
    return values;
  }

 private:
  struct Values final : Candidates {
    std::vector<double> x;
    void fit(BatchSource&, const Exec&) override {}
    void score(const Batch& batch, MatrixD& out, const Exec&) const override {
      out =
          Eigen::Map<const Eigen::RowVectorXd>(x.data(), std::ssize(x)).replicate(batch.rows(), 1);
    }
    Diagnostics diagnostics(Index s) const override {
      Diagnostics found;
      if (x[static_cast<std::size_t>(s)] > 0.5) found.warnings = {"not to be trusted"};
      return found;
    }
  };

  void fit_state(BatchSource&, const Exec&) override {}
  void score_tile(const Batch&, std::span<float>) const override {}
  double x_ = 0;
};

}  // namespace

TEST_CASE("search: a likelihood whose fit warns is best only where all warn") {
  MemorySource source(train().batch()), val(id_val().batch());
  const auto best = [&](std::vector<OptionValue> values) {
    const auto result = search(
        Boaster(), {.grid = {{"x", std::move(values)}}, .criterion = Criterion::id_likelihood},
        {.train = source, .id_val = &val});
    return std::get<double>(result.best.options.at("x"));
  };
  CHECK(best({0.9, 0.2, 0.4, 1.0, 0.3}) == 0.4);
  CHECK(best({0.1, 0.9}) == 0.1);
  CHECK(best({0.9, 1.0, 0.8}) == 1.0);
}

// --- Golden section -----------------------------------------------------------------------------

TEST_CASE("search: the golden section finds a peak with a logarithmic number of fits") {
  for (const bool low : {false, true})
    for (const double tolerance : {0.1, 0.01}) {
      CAPTURE(low);
      CAPTURE(tolerance);
      Probe probe;
      SearchSpec spec = {.criterion = low ? Criterion::ood_val_fpr95 : Criterion::ood_val_auroc};
      spec.interval = SearchInterval{"x", 0.05, 0.95, tolerance};
      const auto result = PeakedData().search_in(probe, spec);
      const double best = std::get<double>(result.best.options.at("x"));
      CHECK(std::abs(best - Probe::kPeak) <= tolerance);
      CHECK(result.best.value ==
            doctest::Approx(low ? std::abs(best - Probe::kPeak) : 1 - std::abs(best - Probe::kPeak))
                .epsilon(1e-3));
      int steps = 0;  // each leaves 0.618 of the interval
      for (double length = 0.9; length > tolerance; length *= (std::sqrt(5.0) - 1) / 2) ++steps;
      CHECK(result.curve.size() == static_cast<std::size_t>(steps + 2));
      CHECK(probe.record().fits.size() == result.curve.size());
      for (std::size_t i = 0; i < result.curve.size(); ++i) {
        const double x = std::get<double>(result.curve[i].options.at("x"));
        CHECK(x > 0.05);
        CHECK(x < 0.95);
        if (i > 0) CHECK(x > std::get<double>(result.curve[i - 1].options.at("x")));
        CHECK((low ? result.curve[i].value >= result.best.value
                   : result.curve[i].value <= result.best.value));
      }
    }
}
