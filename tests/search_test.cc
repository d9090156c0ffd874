// What a search finds, against single fits, metrics counted pair by pair, and a detector that
// writes down which rows it was given.
#include "ood/search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "ood/registry.h"
#include "ood/serialize.h"
#include "ood/stream.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Index kDim = 6, kClasses = 4;
constexpr std::array kCriterionValues = {Criterion::ood_val_auroc, Criterion::ood_val_fpr95,
                                         Criterion::id_likelihood, Criterion::pseudo_ood};

const test::Synthetic& train() {
  static const auto data = test::make_synthetic(300, kDim, kClasses, 1);
  return data;
}
const test::Synthetic& id_val() {
  static const auto data = test::make_synthetic(120, kDim, kClasses, 2);
  return data;
}
const test::Synthetic& near() {
  static const auto data = test::make_synthetic(70, kDim, kClasses, 3, 0.01);
  return data;
}
const test::Synthetic& far() {
  static const auto data = test::make_synthetic(90, kDim, kClasses, 4, 1.5);
  return data;
}

// --- Metrics, counted ---------------------------------------------------------------------------

using Scores = std::vector<float>;

double counted_auroc(const Scores& id, const Scores& ood) {
  double pairs = 0;
  for (const float a : id)
    for (const float b : ood) pairs += a > b ? 1.0 : a == b ? 0.5 : 0.0;
  return pairs / static_cast<double>(id.size() * ood.size());
}

double counted_fpr95(const Scores& id, const Scores& ood) {
  float threshold = -std::numeric_limits<float>::infinity();  // the highest that accepts 95 %
  for (const float t : id)
    if (20 * std::ranges::count_if(id, [&](float s) { return s >= t; }) >= 19 * std::ssize(id))
      threshold = std::max(threshold, t);
  return static_cast<double>(std::ranges::count_if(ood, [&](float s) { return s >= threshold; })) /
         static_cast<double>(ood.size());
}

Scores scores_of(const std::string& name, const OptionMap& options, const Batch& batch) {
  const auto detector = make_detector(name, options);
  MemorySource source(train().batch(), &train().head);
  if (detector->needs().fit.any()) detector->fit(source);
  return detector->score(batch);
}

// --- A detector of the tests alone --------------------------------------------------------------

using Row = std::vector<float>;

Row row_of(const MatrixView& rows, Index i) {
  return {rows.row_data(i), rows.row_data(i) + rows.cols()};
}

/// What Probe was given.
struct Record {
  struct Fit {
    std::vector<Row> rows;
    std::vector<std::int64_t> labels;
    Index classes = 0;
  };
  std::vector<Fit> fits;
  std::set<Row> scored;
  std::mutex mutex;
};

/// s(z) = z_0 - |x - 0.7| z_1, and a record of the rows that it saw.
class Probe final : public Detector {
 public:
  static constexpr double kPeak = 0.7;

  explicit Probe(const Needs& needs = {.fit = {.features = true, .labels = true},
                                       .score = {.features = true}})
      : needs_(needs) {}
  std::string_view name() const override { return "probe"; }
  Needs needs() const override { return needs_; }
  std::unique_ptr<Detector> clone() const override { return std::make_unique<Probe>(*this); }
  void visit(FieldVisitor& v) override {
    v.option("x", x_, Range{.min = 0, .max = 1}, "best at 0.7");
    v.option("idle", idle_, Range::at_least(0), "changes nothing");
    v.option("upside_down", upside_down_, "negates scores");
    v.option("broken", broken_, "scores NaN");
  }
  Diagnostics found() const override {
    return {.values = {}, .per_class = {}, .warnings = {std::to_string(idle_) + " is idle"}};
  }
  Record& record() const { return *record_; }

 private:
  void fit_state(BatchSource& source, const Exec& exec) override {
    Record::Fit fit;
    fit.classes = source.info().classes;
    stream(source, needs_.fit, exec, [&](const Batch& batch) {
      for (Index i = 0; i < batch.rows() && batch.features; ++i)
        fit.rows.push_back(row_of(*batch.features, i));
      if (batch.labels)
        fit.labels.insert(fit.labels.end(), batch.labels->begin(), batch.labels->end());
    });
    record_->fits.push_back(fit);
  }
  void score_tile(const Batch& tile, std::span<float> out) const override {
    const MatrixView z = needs_.score.features ? *tile.features : *tile.logits;
    const std::lock_guard lock(record_->mutex);
    for (Index i = 0; i < z.rows(); ++i) {
      record_->scored.insert(row_of(z, i));
      const auto s = static_cast<float>(z(i, 0) - std::abs(x_ - kPeak) * z(i, 1));
      out[static_cast<std::size_t>(i)] = broken_ ? std::nanf("") : upside_down_ ? -s : s;
    }
  }

  Needs needs_;
  double x_ = 0.5;
  Index idle_ = 0;
  bool upside_down_ = false, broken_ = false;
  std::shared_ptr<Record> record_ = std::make_shared<Record>();  // of all clones together
};

Batch batch_of(const Matrix& features, const std::vector<std::int64_t>* labels = nullptr) {
  Batch batch;
  batch.features = features;
  if (labels != nullptr) batch.labels = *labels;
  return batch;
}

Batch batch_of(Matrix&&, const std::vector<std::int64_t>* = nullptr) = delete;  // a batch is a view

/// Rows (0, 1), of which Probe ranks the share 1 - |x - 0.7| above the rows (-j / n, 0).
struct PeakedData {
  Matrix id = Matrix::Zero(40, 2), outliers = Matrix::Zero(1000, 2);
  std::vector<std::int64_t> labels = std::vector<std::int64_t>(40, 0);
  PeakedData() {
    id.col(1).setOnes();
    for (Index j = 0; j < outliers.rows(); ++j)
      outliers(j, 0) = -(static_cast<float>(j) + 0.5f) / static_cast<float>(outliers.rows());
  }
  SearchResult search_in(const Detector& detector, const SearchSpec& spec) const {
    MemorySource source(batch_of(id, &labels)), val(batch_of(id)), far(batch_of(outliers));
    return search(detector, spec, {.train = source, .id_val = &val, .ood_val = {{"far", &far}}});
  }
};

/// A source that says what it has, and cannot be read.
class Unreadable final : public BatchSource {
 public:
  explicit Unreadable(SourceInfo info) : info_(std::move(info)) {}
  const SourceInfo& info() const override { return info_; }
  const Head* head() const override { return &train().head; }
  void read(const Inputs&, const std::function<void(const Batch&)>&) override {
    throw std::logic_error("read");
  }

 private:
  SourceInfo info_;
};

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return std::string("invalid_argument: ") + error.what();
  } catch (const std::domain_error& error) {
    return std::string("domain_error: ") + error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "no error";
}

bool same_points(const std::vector<SearchPoint>& a, const std::vector<SearchPoint>& b) {
  return std::ranges::equal(a, b, [](const SearchPoint& p, const SearchPoint& q) {
    return p.options == q.options && p.value == q.value && p.parts == q.parts;
  });
}

double part(const SearchPoint& point, const std::string& name) {
  for (const auto& known : point.parts)
    if (known.first == name) return known.second;
  return std::nan("");
}

}  // namespace

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
  CHECK(over({"samples", 2, 100, 1}).find("expected a whole number") != std::string::npos);
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
    return error_of([&] {
      search(*detector,
             {.grid = {{option, {own != nullptr ? OptionValue(0.5) : OptionValue(Index{2})}}},
              .criterion = criterion,
              .rows = 20},
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
