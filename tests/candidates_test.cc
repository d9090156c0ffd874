// Settings of ConjNorm that are fitted and scored together, against single fits and integrals.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "ood/detectors/conjnorm.h"
#include "synthetic.h"

using namespace ood;

namespace {

using Options = ConjNorm::Options;

/// What a set of options differs in from the default, by name.
OptionMap map_of(const Options& options) {
  OptionMap map;
  const auto before = ConjNorm().options(), after = ConjNorm(options).options();
  for (std::size_t i = 0; i < after.size(); ++i)
    if (after[i].value != before[i].value) map[after[i].name] = after[i].value;
  return map;
}

double norm(const std::vector<double>& x, double p) {
  double sum = 0;
  for (const double v : x) sum += std::pow(std::abs(v), p);
  return std::pow(sum, 1 / p);
}

std::vector<double> row_of(const Matrix& rows, Index i) {
  std::vector<double> row;
  for (Index j = 0; j < rows.cols(); ++j) row.push_back(rows(i, j));
  return row;
}

/// Few rows, so that Phi is taken over all of them here and there.
struct Rows {
  test::Synthetic train, queries;
  Rows(Index count, Index dim, Index classes)
      : train(test::make_synthetic(count, dim, classes, 1)),
        queries(test::make_synthetic(150, dim, classes, 2)) {}
};

/// What float32 exponents may be off by: products of rows of unit l_p norm over t.
double slack(const Options& options) { return 2e-6 * (1 + 10 / options.temperature); }

/// Fits `settings` together and each alone; scores and diagnostics must be the same.
void check_against_single_fits(const Rows& rows, const std::vector<Options>& settings) {
  std::vector<OptionMap> maps;
  for (const Options& options : settings) maps.push_back(map_of(options));
  const auto together = ConjNorm().candidates(maps, Quantity::score);
  MemorySource source(rows.train.batch(), nullptr, 100);
  together->fit(source);
  MatrixD scores;
  together->score(rows.queries.batch(), scores);
  REQUIRE(scores.rows() == 150);
  REQUIRE(scores.cols() == std::ssize(settings));
  for (std::size_t s = 0; s < settings.size(); ++s) {
    CAPTURE(s);
    const auto column = static_cast<Index>(s);
    ConjNorm alone(settings[s]);
    alone.fit(source);
    const auto expected = alone.score(rows.queries.batch());
    for (Index i = 0; i < scores.rows(); ++i) {
      const double own = expected[static_cast<std::size_t>(i)];
      CHECK(std::abs(scores(i, column) - own) <= slack(settings[s]));
    }
    const Diagnostics found = together->diagnostics(column), single = alone.diagnostics();
    CHECK(found.warnings.size() == single.warnings.size());
    CHECK((found.values == single.values));
    REQUIRE(found.per_class.size() == single.per_class.size());
    for (std::size_t c = 0; c < found.per_class.size(); ++c) {
      CHECK(found.per_class[c].name == single.per_class[c].name);
      REQUIRE(found.per_class[c].values.size() == single.per_class[c].values.size());
      for (std::size_t k = 0; k < found.per_class[c].values.size(); ++k)
        CHECK(found.per_class[c].values[k] ==
              doctest::Approx(single.per_class[c].values[k]).epsilon(1e-3));
    }
  }
}

std::string error_of(const auto& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("candidates: scores and diagnostics are those of single fits") {
  const auto with = [](ConjNorm::Partition partition, std::vector<Options> settings) {
    for (Options& options : settings) {
      options.partition = partition;
      options.proposal = ConjNorm::Proposal::matched;  // what candidates take for auto
      options.samples = 100;
    }
    return settings;
  };
  const std::vector<Options> settings = {
      {.p = 1.3, .temperature = 0.5},
      {.p = 2.0, .temperature = 0.08},
      {.p = 2.0, .temperature = 0.3},
      {.p = 2.7, .temperature = 0.08},
      {.p = 2.7, .temperature = 0.08, .gradient = ConjNorm::Gradient::published_code},
      {.p = 1.3, .temperature = 0.5}};
  const Rows many(1'024, 9, 5), few(5 * 32, 9, 5);
  check_against_single_fits(many, with(ConjNorm::Partition::pooled, settings));
  check_against_single_fits(few, with(ConjNorm::Partition::per_class, settings));
  check_against_single_fits(few, with(ConjNorm::Partition::importance, settings));
  check_against_single_fits(many, with(ConjNorm::Partition::none, settings));
}

TEST_CASE("candidates: settings that differ in anything come back in their order") {
  using enum ConjNorm::Partition;
  using ConjNorm::Proposal::matched;
  const std::vector<double> priors = {0.5, 0.2, 0.1, 0.1, 0.1};
  check_against_single_fits(
      Rows(5 * 32, 9, 5),
      {{.p = 1.5, .temperature = 0.2},
       {.p = 1.5, .temperature = 0.2, .class_prior = ConjNorm::ClassPrior::empirical},
       {.p = 1.8, .temperature = 0.2, .partition = per_class},
       {.p = 2.0, .temperature = 0.2},
       {.p = 2.0, .temperature = 0.2, .partition = importance, .proposal = matched, .samples = 100},
       {.p = 2.5, .temperature = 0.2, .partition = none},
       {.p = 1.5, .temperature = 0.3, .class_prior = ConjNorm::ClassPrior::given, .priors = priors},
       {.p = 2.0,
        .temperature = 0.2,
        .partition = importance,
        .proposal = matched,
        .samples = 100,
        .seed = 1},
       {.p = 1.9, .temperature = 0.2, .partition = per_class},
       {.p = 1.5, .temperature = 0.4, .share = 0.5},
       {.p = 1.5, .temperature = 0.4, .resample = ConjNorm::Resample::bootstrap},
       {.p = 2.2, .temperature = 0.2, .class_prior = ConjNorm::ClassPrior::empirical}});
}

TEST_CASE("candidates: a large training set and many samples are cut down, and say so") {
  const Rows rows(6'000, 6, 3);
  MemorySource source(rows.train.batch());
  const std::vector<OptionMap> settings = {
      {}, {{"partition", std::string("per_class")}}, {{"partition", std::string("importance")}}};
  const auto candidates = ConjNorm().candidates(settings, Quantity::score);
  candidates->fit(source);
  const auto largest = [&](Index setting) {
    const auto columns = candidates->diagnostics(setting).per_class;
    const auto found = std::ranges::find(columns, "effective_samples", &Diagnostics::Column::name);
    return std::ranges::max(found->values);
  };
  CHECK(largest(0) <= 1'200);  // about 1,024
  CHECK(largest(1) <= 60);     // about 32
  CHECK(largest(2) <= 128);
  const auto values = candidates->diagnostics(2).values;
  const auto samples = std::ranges::find(values, "samples", [](const auto& v) { return v.first; });
  CHECK(std::get<Index>(samples->second) == 128);
}

TEST_CASE("candidates: options that were given or are compared are kept as they are") {
  const Rows rows(6'000, 6, 3);
  MemorySource source(rows.train.batch());
  const auto value = [&](const Diagnostics& found, const std::string& name) {
    return to_text(
        std::ranges::find(found.values, name, [](const auto& v) { return v.first; })->second);
  };
  const std::vector<OptionMap> compared = {
      {{"samples", Index{1024}}, {"proposal", std::string("auto")}}, {{"samples", Index{300}}}};
  const auto by_setting = ConjNorm({.p = 2, .partition = ConjNorm::Partition::importance})
                              .candidates(compared, Quantity::score);
  by_setting->fit(source);
  CHECK(value(by_setting->diagnostics(0), "samples") == "1024");
  CHECK(value(by_setting->diagnostics(0), "proposal") == "gaussian");  // what auto takes at p = 2
  CHECK(value(by_setting->diagnostics(1), "samples") == "300");
  CHECK(value(by_setting->diagnostics(1), "proposal") == "matched");

  const std::vector<OptionMap> one = {{{"p", 2.0}}};
  const auto given = ConjNorm({.partition = ConjNorm::Partition::importance, .samples = 200})
                         .candidates(one, Quantity::score);
  given->fit(source);
  CHECK(value(given->diagnostics(0), "samples") == "200");

  // with t large all rows weigh the same: as many effective samples as rows were drawn
  const auto share =
      ConjNorm({.p = 2, .temperature = 1e6, .share = 0.5}).candidates(one, Quantity::score);
  share->fit(source);
  const auto columns = share->diagnostics(0).per_class;
  const auto found = std::ranges::find(columns, "effective_samples", &Diagnostics::Column::name);
  CHECK(found->values[0] == doctest::Approx(3'000).epsilon(0.1));
}

TEST_CASE("candidates: log_likelihood is the importance score in a measure that all p share") {
  const Rows rows(400, 7, 4);
  MemorySource source(rows.train.batch());
  const std::vector<Options> settings = {
      {.p = 1.4, .temperature = 0.3},
      {.p = 2.0, .temperature = 0.1},
      {.p = 3.0, .temperature = 0.3, .gradient = ConjNorm::Gradient::published_code}};
  std::vector<OptionMap> maps;
  for (const Options& options : settings) maps.push_back(map_of(options));
  const auto candidates = ConjNorm().candidates(maps, Quantity::log_likelihood);
  candidates->fit(source);
  MatrixD found;
  candidates->score(rows.queries.batch(), found);
  for (std::size_t s = 0; s < settings.size(); ++s) {
    Options options = settings[s];
    options.partition = ConjNorm::Partition::importance;
    options.proposal = ConjNorm::Proposal::matched;
    options.samples = 128;
    ConjNorm alone(options);
    alone.fit(source);
    const auto scores = alone.score(rows.queries.batch());
    for (Index i = 0; i < found.rows(); ++i) {
      const auto x = row_of(rows.queries.features, i);
      const double measure = 7 * std::log(norm(x, 2) / norm(x, options.p));
      CHECK(std::abs(found(i, static_cast<Index>(s)) -
                     (scores[static_cast<std::size_t>(i)] + measure)) < slack(options) + 1e-5);
    }
  }
  // a factor on the rows changes nothing: neither z nor the direction
  Matrix larger = 1000.0f * rows.queries.features;
  Batch scaled;
  scaled.features = larger;
  MatrixD again;
  candidates->score(scaled, again);
  CHECK((again - found).cwiseAbs().maxCoeff() < 1e-3);
}

TEST_CASE("candidates: the density behind log_likelihood integrates to 1 over the plane") {
  constexpr int kSteps = 800;
  const Rows rows(300, 2, 3);
  MemorySource source(rows.train.batch());
  for (const double p : {1.5, 2.0, 3.0}) {
    CAPTURE(p);
    const double q = p / (p - 1), t = 0.2;
    ConjNorm detector({.p = p,
                       .temperature = t,
                       .partition = ConjNorm::Partition::importance,
                       .samples = 20'000});
    detector.fit(source);

    // the formula, from the rows: means, gradients, |mu|_q^2 / 2
    struct Class {
      std::vector<double> mu{0, 0}, g{0, 0};
      double half_square = 0;
    };
    std::array<Class, 3> classes;
    for (Index i = 0; i < 300; ++i)
      for (std::size_t j = 0; j < 2; ++j)
        classes[static_cast<std::size_t>(i % 3)].mu[j] +=
            rows.train.features(i, static_cast<Index>(j)) / 100;
    for (Class& of : classes) {
      const double length = norm(of.mu, p);
      for (double& v : of.mu) v /= length;
      const double size = norm(of.mu, q);
      of.half_square = size * size / 2;
      for (std::size_t j = 0; j < 2; ++j)
        of.g[j] =
            std::copysign(std::pow(std::abs(of.mu[j]), q - 1) / std::pow(size, q - 2), of.mu[j]);
    }
    const VectorD& log_phi = detector.log_partition();
    // f(z) at z = rho u / |u|_p
    const auto density = [&](double rho, const std::vector<double>& u) {
      const double scale = rho / norm(u, p), size = scale * norm(u, q);
      double sum = 0;
      for (std::size_t k = 0; k < 3; ++k) {
        const Class& of = classes[k];
        const double product = scale * (u[0] * of.g[0] + u[1] * of.g[1]);
        sum += std::exp(-(size * size / 2 + of.half_square - product) / t -
                        log_phi[static_cast<Index>(k)]) /
               3;
      }
      return sum;
    };

    // dz = rho^(D-1) |u|_p^(-D) d rho du, at the middle of each cell
    double integral = 0;
    const double end = 12, step = end / kSteps, angle = 2 * std::numbers::pi / kSteps;
    Matrix directions(kSteps, 2);
    for (int a = 0; a < kSteps; ++a) {
      const std::vector<double> u = {std::cos((a + 0.5) * angle), std::sin((a + 0.5) * angle)};
      directions.row(a) << static_cast<float>(u[0]), static_cast<float>(u[1]);
      const double jacobian = std::pow(norm(u, p), -2);
      for (int r = 0; r < kSteps; ++r) {
        const double rho = (r + 0.5) * step;
        integral += density(rho, u) * rho * jacobian * step * angle;
      }
    }
    const double error = detector.standard_error().maxCoeff();
    CHECK(error < 0.03);
    CHECK(std::abs(integral - 1) < 4 * error + 1e-3);

    // the score is log f at rho = 1, and log_likelihood that density of (rho, u)
    Batch batch;
    batch.features = directions;
    const auto scores = detector.score(batch);
    for (int a = 0; a < kSteps; a += 7) {
      const auto u = row_of(directions, a);
      CHECK(scores[static_cast<std::size_t>(a)] ==
            doctest::Approx(std::log(density(1, u))).epsilon(1e-4));
    }
  }
}

TEST_CASE("candidates: errors are those of the detector") {
  const Rows rows(60, 6, 3);
  const std::vector<OptionMap> settings = {{{"p", 2.0}},
                                           {{"class_prior", std::string("empirical")}}};
  const auto candidates = ConjNorm().candidates(settings, Quantity::score);
  MatrixD out;
  CHECK(error_of([&] { candidates->score(rows.queries.batch(), out); }) ==
        "conjnorm.score: not fitted, expected fit before score");
  CHECK_FALSE(candidates->diagnostics(0).any());
  Batch unlabelled;
  unlabelled.features = rows.train.features;
  MemorySource bare(unlabelled), source(rows.train.batch());
  CHECK(error_of([&] { candidates->fit(bare); }) == "conjnorm.fit: memory has no labels");
  MemorySource two(rows.train.batch().slice(1, 2));
  CHECK(error_of([&] { candidates->fit(two); }) ==
        "conjnorm.fit: memory has 3 classes but 2 rows, expected 1 row or more of each");
  candidates->fit(source);
  Batch logits;
  logits.logits = rows.train.logits;
  CHECK(error_of([&] { candidates->score(logits, out); }) ==
        "conjnorm.score: batch has no features");
  const Matrix narrow = Matrix::Zero(2, 5);
  unlabelled.features = narrow;
  CHECK(error_of([&] { candidates->score(unlabelled, out); }) ==
        "conjnorm.score: features has 5 columns, expected 6");
  candidates->score(rows.queries.batch().slice(0, 0), out);
  CHECK(out.rows() == 0);
  CHECK(out.cols() == 2);
  const std::vector<OptionMap> bad = {{{"p", 2.0}}, {{"p", 0.5}}};
  for (const Quantity quantity : {Quantity::score, Quantity::log_likelihood})
    CHECK(error_of([&] {
            ConjNorm().candidates(bad, quantity);
          }).starts_with("conjnorm: option p has 0.5, expected "));
}
