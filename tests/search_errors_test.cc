// What is wrong with a search, said before or while data are read.
#include <doctest/doctest.h>

#include "ood/serialize.h"
#include "search_probe.h"

using namespace ood;
using namespace ood::test;

// --- Errors -------------------------------------------------------------------------------------

TEST_CASE("search: what is wrong with the spec or a setting is an error before data are read") {
  MemorySource whole(train().batch(), &train().head);
  Unreadable source(whole.info());
  const auto error = [&](const SearchSpec& spec, const std::string& name = "conjnorm") {
    return error_of([&] {
      search(*make_detector(name), spec,
             {.train = source, .id_val = &source, .ood_val = {{"far", &source}}});
    });
  };
  const SearchSpec good = {.grid = {{"p", {2.0}}}};
  CHECK(error(good) == "another exception: read");  // the source does throw
  const auto with = [&](const std::function<void(SearchSpec&)>& change) {
    SearchSpec spec = good;
    change(spec);
    return error(spec);
  };
  const auto over = [&](SearchInterval interval) {
    return error({.interval = std::move(interval)});
  };
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");

  CHECK(error({.grid = {{"split", {std::string("train"), std::string("id_val")}}}}, "react") ==
        "invalid_argument: search: react is fitted on id_val with id_val, expected settings that "
        "are fitted on train");
  CHECK(error({.grid = {{"match", {std::string("all")}}}}, "kl_matching")
            .starts_with("invalid_argument: search: kl_matching is fitted on id_val"));
  CHECK(error({.grid = {{"rule", {std::string("mean")}}}, .criterion = Criterion::ood_val_auroc},
              "fusion")
            .starts_with("invalid_argument: search: fusion is fitted on id_val"));
  CHECK(error({.grid = {{"c", {1.0}}}, .criterion = Criterion::ood_val_auroc}, "linear_probe")
            .starts_with("invalid_argument: search: linear_probe is fitted on id_val"));
  CHECK(error({}) == "invalid_argument: search: none of grid and interval given, expected one");
  CHECK(with([](SearchSpec& spec) { spec.interval.emplace(); }) ==
        "invalid_argument: search: both of grid and interval given, expected one");
  CHECK(with([](SearchSpec& spec) { spec.grid[0].values.clear(); }) ==
        "invalid_argument: search: p has 0 values, expected 1 or more");
  CHECK(with([](SearchSpec& spec) { spec.grid.push_back(spec.grid[0]); }) ==
        "invalid_argument: search: p is searched twice, expected once");
  CHECK(with([](SearchSpec& spec) { spec.rows = 0; }) ==
        "invalid_argument: search: rows has 0, expected 1 or more");
  for (const double share : {0.0, -0.1, 0.51, nan})
    CHECK(with([&](SearchSpec& spec) {
            spec.held_out = share;
          }).ends_with(", expected above 0, 0.5 or less"));
  CHECK(with([](SearchSpec& spec) { spec.held_out = 0.75; }) ==
        "invalid_argument: search: held_out has 0.75, expected above 0, 0.5 or less");
  CHECK(over({"p", 3, 1.5, 0.1}) ==
        "invalid_argument: search: p has the range 3 to 1.5, expected it to rise");
  for (const auto& [min, max] : {std::pair{2.0, 2.0}, {2.0, inf}, {-inf, 2.0}, {nan, 2.0}})
    CHECK(over({"p", min, max, 0.1}).ends_with(", expected it to rise"));
  for (const double tolerance : {0.0, -1.0, 1e-12, nan})
    CHECK(over({"p", 1.5, 3, tolerance}).find("search: tolerance has ") != std::string::npos);

  // every value of an axis is looked at, and the ends of an interval
  CHECK(error({.grid = {{"p", {2.0, 1.0}}}}) ==
        "invalid_argument: conjnorm: option p has 1, expected a number, above 1, 1000000 or less");
  CHECK(error({.grid = {{"q", {2.0}}}}).find("conjnorm: unknown option q, expected one of p") !=
        std::string::npos);
  CHECK(error({.grid = {{"gradient", {2.0}}}}).find("option gradient has 2") != std::string::npos);
  CHECK(error({.grid = {{"preset", {std::string("x")}}}}).find("conjnorm: preset has x") !=
        std::string::npos);
  CHECK(over({"p", 0.5, 3, 0.1}).find("conjnorm: option p has 0.5") != std::string::npos);
  CHECK(over({"temperature", 1, 1e30, 1e25}).find("temperature has 1e+30") != std::string::npos);
  CHECK(over({"q", 1.5, 3, 0.1}).find("unknown option q") != std::string::npos);
  CHECK(over({"samples", 2, 100, 1}) ==
        "invalid_argument: search: samples is no real option, expected a grid of values");
  CHECK(over({"gradient", 0, 1, 0.1}).find("option gradient has 0") != std::string::npos);

  CHECK(error({.grid = {{"k", {Index{1}}}}}, "knn") ==
        "invalid_argument: knn has no density, expected a detector with a log-likelihood");
  CHECK(error({.interval = SearchInterval{"temperature", 1, 2, 0.1}}, "energy") ==
        "invalid_argument: energy has no density, expected a detector with a log-likelihood");
}

TEST_CASE("search: what is missing in the data is an error that says so") {
  const SearchSpec outliers = {.grid = {{"k", {Index{1}}}}, .criterion = Criterion::ood_val_fpr95},
                   pseudo = {.grid = {{"k", {Index{1}}}}, .criterion = Criterion::pseudo_ood};
  const auto knn = make_detector("knn");
  MemorySource source(train().batch());
  CHECK(error_of([&] { search(*knn, outliers, {.train = source}); }) ==
        "invalid_argument: ood_val_fpr95 needs a set of validation outliers, expected 1 or more");

  MemorySource bare(batch_of(train().features), nullptr, 100, "bare");
  CHECK(error_of([&] { search(*knn, pseudo, {.train = bare}); }) ==
        "invalid_argument: bare has no labels, which pseudo_ood needs");
  const std::vector<std::int64_t> same(300, 2);
  MemorySource one_class(batch_of(train().features, &same));
  CHECK(error_of([&] { search(*knn, pseudo, {.train = one_class}); }) ==
        "domain_error: memory has held-out rows of 1 class, expected 2 or more");
  const Probe layers({.fit = {.features = true}, .score = {.features = true, .layers = true}});
  CHECK(error_of([&] {
          search(layers, {.grid = {{"x", {0.5}}}, .criterion = Criterion::pseudo_ood},
                 {.train = source});
        }) == "invalid_argument: pseudo_ood makes features and logits, probe needs layers");

  // a tenth of 9 rows is none; of 12 it is one, which may be the first of its class
  MemorySource few(train().batch().slice(0, 9));
  CHECK(error_of([&] { search(*knn, pseudo, {.train = few}); }) ==
        "domain_error: memory leaves 0 rows to compare settings on, expected 1 or more");
  std::vector<std::int64_t> own(20);
  for (std::size_t i = 0; i < own.size(); ++i) own[i] = static_cast<std::int64_t>(i);
  const Matrix firsts = train().features.topRows(20);
  MemorySource classes(batch_of(firsts, &own));
  CHECK(error_of([&] { search(*knn, pseudo, {.train = classes}); }) ==
        "domain_error: memory leaves 0 rows to compare settings on, expected 1 or more");

  MemorySource logits_only([] {
    Batch batch;
    batch.logits = far().logits;
    return batch;
  }());
  CHECK(error_of([&] {
          search(*knn, outliers, {.train = source, .ood_val = {{"far", &logits_only}}});
        }) == "invalid_argument: memory has no features");
  const Matrix narrow = Matrix::Zero(5, 3);
  MemorySource narrow_source(batch_of(narrow));
  for (const std::string name : {"knn", "conjnorm"})
    CHECK(error_of([&] {
            search(*make_detector(name),
                   {.grid = {{name == "knn" ? "k" : "samples", {Index{2}}}},
                    .criterion = Criterion::ood_val_auroc},
                   {.train = source, .ood_val = {{"far", &narrow_source}}});
          }) == "invalid_argument: " + name + ".score: features has 3 columns, expected 6");
  CHECK(error_of([&] {
          search(*knn, {.grid = {{"k", {Index{290}}}}, .criterion = Criterion::ood_val_auroc},
                 {.train = source, .ood_val = {{"far", &source}}});
        }).find("expected k = 290 or more") != std::string::npos);
  MemorySource unlabelled(batch_of(train().features));
  MemorySource val(id_val().batch());
  CHECK(error_of([&] {
          search(*make_detector("conjnorm"), {.grid = {{"p", {2.0}}}},
                 {.train = unlabelled, .id_val = &val});
        }) == "invalid_argument: conjnorm.fit: memory has no labels");
}

TEST_CASE("search: a bad value is named by its row in its own source, whatever rows are chosen") {
  const auto error = [](const std::string& name, Criterion criterion, const Batch& rows,
                        const Batch& validation, const Batch& outliers, bool with_id_val,
                        const Detector* own = nullptr) {
    MemorySource source(rows, nullptr, 64, "train"), val(validation, nullptr, 64, "val"),
        far_source(outliers, nullptr, 64, "far");
    const auto detector = own != nullptr ? own->clone() : make_detector(name);
    const std::string option = own != nullptr ? "x" : name == "knn" ? "k" : "samples";
    const std::string value = own != nullptr ? "0.5" : "2";
    return error_of([&] {
      search(*detector,
             {.grid = {{option, {OptionValue(value)}}}, .criterion = criterion, .rows = 20},
             {.train = source,
              .id_val = with_id_val ? &val : nullptr,
              .ood_val = {{"far", &far_source}}});
    });
  };
  for (const std::string name : {"knn", "conjnorm"})
    for (const Index row : {0, 1, 123, 298, 299})
      for (const Criterion criterion : kCriterionValues) {
        if (name == "knn" && criterion == Criterion::id_likelihood) continue;
        CAPTURE(name);
        CAPTURE(row);
        auto bad = train();
        bad.features(row, 2) = std::nanf("");
        for (const bool with_id_val : {false, true})
          CHECK(error(name, criterion, bad.batch(), id_val().batch(), far().batch(), with_id_val)
                    .ends_with("train/features has NaN at row " + std::to_string(row) +
                               ", column 2, expected finite numbers"));
      }
  auto bad = train();
  bad.features(77, 1) = std::numeric_limits<float>::infinity();
  CHECK(error("knn", Criterion::ood_val_auroc, train().batch(), bad.batch(), far().batch(), true) ==
        "invalid_argument: val/features has infinity at row 77, column 1, expected finite numbers");
  CHECK(error("knn", Criterion::ood_val_auroc, train().batch(), id_val().batch(), bad.batch(),
              true) ==
        "invalid_argument: far/features has infinity at row 77, column 1, expected finite numbers");
  auto labelled = train();
  labelled.labels[250] = -1;
  CHECK(error("conjnorm", Criterion::pseudo_ood, labelled.batch(), id_val().batch(), far().batch(),
              true) == "invalid_argument: train/labels has -1 at row 250, expected [0, 4)");

  // what the fit alone reads is checked before rows are taken out
  auto unseen = train();
  unseen.features(299, 0) = std::nanf("");
  const Probe probe({.fit = {.features = true}, .score = {.logits = true}});
  CHECK(error("", Criterion::ood_val_auroc, unseen.batch(), id_val().batch(), far().batch(), false,
              &probe)
            .ends_with("train/features has NaN at row 299, column 0, expected finite numbers"));
}

TEST_CASE("search: options that no search may have, said by name") {
  MemorySource source(train().batch()), val(id_val().batch());
  const auto error = [&](const OptionMap& own, const SearchSpec& spec) {
    return error_of(
        [&] { search(*make_detector("conjnorm", own), spec, {.train = source, .id_val = &val}); });
  };
  CHECK(
      error({}, {.grid = {{"partition", {std::string("pooled"), std::string("none")}}},
                 .criterion = Criterion::id_likelihood}) ==
      "invalid_argument: conjnorm: a log-likelihood has partition importance, expected no others");
  CHECK(error({{"samples", Index{1025}}, {"antithetic", true}},
              {.grid = {{"p", {2.0}}}, .criterion = Criterion::id_likelihood}) ==
        "invalid_argument: conjnorm: samples has 1025, expected an even number, 2 or more, for "
        "antithetic pairs");
  CHECK(error({{"class_prior", std::string("given")}, {"priors", std::string("0.1,0.2,0.3,0.4")}},
              {.grid = {{"p", {2.0}}}, .criterion = Criterion::pseudo_ood}) ==
        "invalid_argument: search: pseudo_ood, on a half of the classes: conjnorm.fit: option "
        "priors has 4 entries, expected 2 as there are classes");
}
