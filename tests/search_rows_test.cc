// Which rows a search fits on, holds out, draws, mixes and leaves out.
#include <doctest/doctest.h>

#include "ood/serialize.h"
#include "search_probe.h"

using namespace ood;
using namespace ood::test;

// --- Held-out rows ------------------------------------------------------------------------------

TEST_CASE("search: held-out rows are no rows of the fit, and never the first of a class") {
  const Matrix features = test::normal_matrix(101, 2, 5);  // rows are told apart by their values
  const Matrix first_row = features.topRows(1);
  std::vector<std::int64_t> labels;
  for (Index i = 0; i < 101; ++i) labels.push_back(i == 50 ? 3 : i % 3);  // one row of class 3
  const auto run = [&](std::uint64_t seed, Index rows, double held_out) {
    Probe probe;
    MemorySource source(batch_of(features, &labels)), outliers(batch_of(first_row));
    const SearchSpec spec = {.grid = {{"x", {0.5}}},
                             .criterion = Criterion::ood_val_auroc,
                             .held_out = held_out,
                             .rows = rows,
                             .seed = seed};
    const auto result = search(probe, spec, {.train = source, .ood_val = {{"first", &outliers}}});
    CHECK(result.fit.rows + result.id.rows == 101);
    CHECK(result.fit.source == "memory");
    CHECK(result.id.source == "memory");
    REQUIRE(probe.record().fits.size() == 1);
    const Record::Fit& fit = probe.record().fits[0];
    CHECK(fit.classes == 4);
    CHECK(std::ssize(fit.rows) == result.fit.rows);
    const std::set<Row> fitted(fit.rows.begin(), fit.rows.end());
    std::set<Row> held = probe.record().scored;
    held.erase(row_of(features, 0));  // the outlier
    CHECK(std::ssize(held) == result.id.rows);
    for (Index i = 0; i < 101; ++i)
      CHECK(fitted.contains(row_of(features, i)) + held.contains(row_of(features, i)) == 1);
    for (const Index first : {0, 1, 2, 50}) CHECK(fitted.contains(row_of(features, first)));
    std::size_t at = 0;  // rows come in their order, with their labels
    for (Index i = 0; i < 101; ++i)
      if (fitted.contains(row_of(features, i))) {
        CHECK(fit.rows[at] == row_of(features, i));
        CHECK(fit.labels[at++] == labels[static_cast<std::size_t>(i)]);
      }
    return held;
  };
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    CAPTURE(seed);
    const auto most = run(seed, 2048, 0.5);
    CHECK(most.size() > 40);  // half the rows but for firsts of a class
    CHECK(most.size() <= 50);
    CHECK(run(seed, 10, 0.5).size() <= 10);
    CHECK(run(seed, 2048, 0.1).size() <= 10);
    CHECK(run(seed, 2048, 0.5) == most);
    CHECK(run(seed + 4, 2048, 0.5) != most);
  }
}

TEST_CASE("search: of a set with more than `rows` rows just `rows` are compared") {
  Probe probe;
  const Matrix own = test::normal_matrix(30, 2, 1), val = test::normal_matrix(500, 2, 2),
               far = test::normal_matrix(400, 2, 3), few = test::normal_matrix(20, 2, 4);
  const std::vector<std::int64_t> labels(30, 0);
  MemorySource source(batch_of(own, &labels)), val_source(batch_of(val)), far_source(batch_of(far)),
      few_source(batch_of(few));
  const SearchSpec spec = {
      .grid = {{"x", {0.5}}}, .criterion = Criterion::ood_val_auroc, .rows = 50};
  const auto result = search(probe, spec,
                             {.train = source,
                              .id_val = &val_source,
                              .ood_val = {{"far", &far_source}, {"few", &few_source}}});
  CHECK(result.fit.rows == 30);
  CHECK(result.id.rows == 50);
  CHECK(result.outliers[0].rows == 50);
  CHECK(result.outliers[1].rows == 20);
  const auto scored_of = [&](const Matrix& rows) {
    Index count = 0;
    for (Index i = 0; i < rows.rows(); ++i)
      count += probe.record().scored.contains(row_of(rows, i));
    return count;
  };
  CHECK(probe.record().scored.size() == 120);
  CHECK(scored_of(val) == 50);
  CHECK(scored_of(far) == 50);
  CHECK(scored_of(few) == 20);
}

TEST_CASE("search: the same bits for any number of threads and any cut into batches") {
  for (const std::string name : {"conjnorm", "knn", "energy"})
    for (const Criterion criterion : kCriterionValues) {
      if (criterion == Criterion::id_likelihood && name != "conjnorm") continue;
      CAPTURE(name);
      const SearchSpec spec = {.grid = {name == "knn"      ? SearchAxis{"k", {Index{1}, Index{9}}}
                                        : name == "energy" ? SearchAxis{"temperature", {0.5, 2.0}}
                                                           : SearchAxis{"p", {1.5, 2.5}}},
                               .criterion = criterion,
                               .rows = 60};
      const auto run = [&](int threads, Index batch_rows) {
        MemorySource source(train().batch(), &train().head, batch_rows),
            outliers(far().batch(), &train().head, batch_rows);
        return search(*make_detector(name), spec,
                      {.train = source, .ood_val = {{"far", &outliers}}}, {threads});
      };
      const auto expected = run(1, 16'384);
      for (const int threads : {1, 2, 7})
        for (const Index batch_rows : {1, 7, 100, 300}) {
          const auto result = run(threads, batch_rows);
          CHECK(same_points(result.curve, expected.curve));
          CHECK(result.id.rows == expected.id.rows);
        }
    }
}

// --- Outliers made from training rows -----------------------------------------------------------

TEST_CASE("search: pseudo_ood makes mixed rows and leaves out classes") {
  Probe probe;
  const Matrix features = test::normal_matrix(100, 2, 9);
  std::vector<std::int64_t> labels;
  for (Index i = 0; i < 100; ++i) labels.push_back(i % 5);
  MemorySource source(batch_of(features, &labels));
  const auto result = search(
      probe, {.grid = {{"x", {0.0, 0.5}}}, .criterion = Criterion::pseudo_ood, .held_out = 0.3},
      {.train = source});
  for (const SearchPoint& point : result.curve) {
    REQUIRE(point.parts.size() == 2);
    CHECK(point.parts[0].first == "mixed");
    CHECK(point.parts[1].first == "classes_left_out");
    CHECK(point.value ==
          doctest::Approx((point.parts[0].second + point.parts[1].second) / 2).epsilon(1e-14));
  }
  REQUIRE(result.outliers.size() == 2);
  CHECK(result.outliers[0].source == "mixed rows of memory");
  CHECK(result.outliers[0].rows == result.id.rows);
  CHECK(result.outliers[1].source == "classes left out of memory");
  CHECK(result.outliers[1].rows > 0);
  CHECK(result.outliers[1].rows < result.id.rows);  // those of two of five classes

  // both settings: fitted on all, then on three of the classes
  const auto& fits = probe.record().fits;
  REQUIRE(fits.size() == 4);
  const Record::Fit &all = fits[0], &half = fits[2];
  CHECK(std::ssize(all.rows) == result.fit.rows);
  std::map<Row, std::int64_t> class_of;
  for (std::size_t i = 0; i < all.rows.size(); ++i) class_of[all.rows[i]] = all.labels[i];
  std::map<std::int64_t, std::int64_t> renumbered;
  for (std::size_t i = 0; i < half.rows.size(); ++i) {
    REQUIRE(class_of.contains(half.rows[i]));
    renumbered.emplace(class_of[half.rows[i]], half.labels[i]);
    CHECK(renumbered[class_of[half.rows[i]]] == half.labels[i]);
  }
  CHECK(half.classes == 3);
  CHECK(std::ssize(renumbered) == 3);
  std::int64_t next = 0;  // in their order, without gaps
  for (const auto& pair : renumbered) CHECK(pair.second == next++);
  const auto of_these = std::ranges::count_if(
      all.labels, [&](std::int64_t label) { return renumbered.contains(label); });
  CHECK(std::ssize(half.rows) == of_these);

  // what was scored: held-out rows, and means of two of them that have different classes
  std::vector<Index> held;
  for (Index i = 0; i < 100; ++i)
    if (!class_of.contains(row_of(features, i))) held.push_back(i);
  std::set<Row> means;
  for (const Index a : held)
    for (const Index b : held) {
      const Matrix mean = 0.5f * (features.row(a) + features.row(b));
      if (labels[static_cast<std::size_t>(a)] != labels[static_cast<std::size_t>(b)])
        means.insert(row_of(mean, 0));
    }
  Index mixed = 0;
  std::set<Row> held_rows;
  for (const Index i : held) held_rows.insert(row_of(features, i));
  for (const Row& row : probe.record().scored) {
    CHECK((held_rows.contains(row) || means.contains(row)));
    mixed += means.contains(row);
  }
  CHECK(mixed > result.id.rows / 2);  // a pair may be drawn again
  CHECK(mixed <= result.id.rows);
}

TEST_CASE("search: separate classes are told from those left out; logits know all classes") {
  MemorySource source(train().batch(), &train().head);
  const auto knn =
      search(*make_detector("knn"),
             {.grid = {{"k", {Index{1}, Index{20}}}}, .criterion = Criterion::pseudo_ood},
             {.train = source});
  CHECK(part(knn.best, "classes_left_out") > 0.9);
  const auto energy =
      search(*make_detector("energy"),
             {.grid = {{"temperature", {0.5, 1.0}}}, .criterion = Criterion::pseudo_ood},
             {.train = source});
  for (const SearchPoint& point : energy.curve) {
    REQUIRE(point.parts.size() == 1);
    CHECK(point.parts[0].first == "mixed");
    CHECK(point.value == point.parts[0].second);
  }
  CHECK(energy.outliers.size() == 1);
}

TEST_CASE("search: logits that are not stored are made by the head, mixed ones too") {
  Batch features = train().batch();
  features.logits.reset();
  const auto run = [&](const Batch& batch) {
    MemorySource source(batch, &train().head);
    return search(*make_detector("energy"),
                  {.grid = {{"temperature", {0.5, 1.0}}}, .criterion = Criterion::pseudo_ood},
                  {.train = source});
  };
  const auto stored = run(train().batch()), made = run(features);
  CHECK(made.best.value == doctest::Approx(stored.best.value).epsilon(1e-3));
}
