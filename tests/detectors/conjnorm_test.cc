// What is ConjNorm's own, beside the reference values (detector_reference_test.cc), the partition
// functions (conjnorm_partition_test.cc) and the contract.
#include "ood/detectors/conjnorm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "synthetic.h"

using namespace ood;

namespace {

using Options = ConjNorm::Options;

/// Classes of any sign with a dead feature, a class of zeros and rows of zeros.
test::Synthetic awkward() {
  auto data = test::make_synthetic(600, 9, 4, 3);
  data.features.col(5).setZero();
  for (Index i = 0; i < 600; ++i)
    if (data.labels[static_cast<std::size_t>(i)] == 2 || i == 4) data.features.row(i).setZero();
  return data;
}

ConjNorm fitted(const test::Synthetic& data, const Options& options) {
  ConjNorm detector(options);
  MemorySource source(data.batch());
  detector.fit(source);
  return detector;
}

std::string message_of(const Options& options) {
  try {
    fitted(test::make_synthetic(40, 3, 4, 1), options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE(
    "conjnorm: any p above 1 and any t, dead features, zero rows and a zero class give numbers") {
  const auto data = awkward();
  for (const double p : {1.0001, 1.01, 1.1, 1.5, 2.0, 2.5, 3.0, 5.0, 100.0, 1e6})
    for (const double t : {1e-20, 0.0005, 0.08, 10.0, 1e20})
      for (const auto gradient : {ConjNorm::Gradient::paper, ConjNorm::Gradient::published_code})
        for (const auto partition : {ConjNorm::Partition::pooled, ConjNorm::Partition::per_class,
                                     ConjNorm::Partition::importance, ConjNorm::Partition::none}) {
          CAPTURE(p);
          CAPTURE(t);
          CAPTURE(gradient);
          CAPTURE(partition);
          const auto detector = fitted(data, {.p = p,
                                              .temperature = t,
                                              .gradient = gradient,
                                              .partition = partition,
                                              .samples = 32});
          CHECK(detector.log_partition().allFinite());
          const auto scores = detector.score(data.batch());
          const auto bad = std::ranges::find_if(scores, [](float s) { return !std::isfinite(s); });
          CHECK_MESSAGE(bad == scores.end(), "row ", bad - scores.begin());
        }
}

TEST_CASE("conjnorm: rows of any size score as their directions do") {
  const auto data = test::make_synthetic(300, 9, 4, 3);
  for (const double p : {1.05, 1.5, 2.0, 3.0}) {
    CAPTURE(p);
    const auto detector = fitted(data, {.p = p});
    const auto expected = detector.score(data.batch());
    for (const float factor : {1e-4f, 1e30f}) {  // 1e-10 is added to a norm
      auto scaled = data;
      scaled.features *= factor;
      const auto scores = detector.score(scaled.batch());
      for (std::size_t i = 0; i < scores.size(); ++i)
        CHECK(scores[i] == doctest::Approx(expected[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("conjnorm: class priors shift the densities of the classes") {
  // two classes far apart: a row is its own class's alone, and log pi of it is what changes
  auto data = test::make_synthetic(90, 4, 2, 5);
  for (Index i = 0; i < 90; ++i) {
    data.labels[static_cast<std::size_t>(i)] = i < 60 ? 0 : 1;
    data.features.row(i) *= 0.01f;
    data.features(i, i < 60 ? 0 : 1) += 10;
  }
  using Prior = ConjNorm::ClassPrior;
  const Options plain = {.p = 2, .temperature = 0.01, .partition = ConjNorm::Partition::none};
  Options empirical = plain, given = plain, only_first = plain;
  empirical.class_prior = Prior::empirical;
  given.class_prior = only_first.class_prior = Prior::given;
  given.priors = {0.9, 0.1};
  only_first.priors = {1, 0};
  const auto scores = fitted(data, plain).score(data.batch());
  const auto by_rows = fitted(data, empirical).score(data.batch());
  const auto by_hand = fitted(data, given).score(data.batch());
  const auto first = fitted(data, only_first).score(data.batch());
  for (const std::size_t i : {0u, 30u, 59u}) {
    CHECK(by_rows[i] - scores[i] ==
          doctest::Approx(std::log(2.0 / 3) - std::log(0.5)).epsilon(1e-3));
    CHECK(by_hand[i] - scores[i] == doctest::Approx(std::log(0.9) - std::log(0.5)).epsilon(1e-3));
  }
  for (const std::size_t i : {60u, 89u}) {
    CHECK(by_rows[i] - scores[i] ==
          doctest::Approx(std::log(1.0 / 3) - std::log(0.5)).epsilon(1e-3));
    CHECK(by_hand[i] - scores[i] == doctest::Approx(std::log(0.1) - std::log(0.5)).epsilon(1e-3));
    CHECK(first[i] < scores[i] - 50);  // as far as class 0 is
  }
}

TEST_CASE("conjnorm: priors that do not fit are an error") {
  Options options = {.class_prior = ConjNorm::ClassPrior::given, .priors = {0.5, 0.5}};
  CHECK(message_of(options) ==
        "conjnorm.fit: option priors has 2 entries, expected 4 as there are classes");
  options.priors = {0.5, 0.5, 0.5, 0.5};
  CHECK(message_of(options) == "conjnorm.fit: option priors has the sum 2, expected 1");
  options.class_prior = ConjNorm::ClassPrior::uniform;
  CHECK(message_of(options) ==
        "conjnorm.fit: option priors has 4 entries, expected none unless class_prior is given");
  options.priors = {-0.5, 1.5};
  CHECK_THROWS_WITH_AS(
      ConjNorm{options},
      "conjnorm: option priors has -0.5, expected numbers, each 0 or more, 1 or less",
      std::invalid_argument);
}

TEST_CASE("conjnorm: a share that draws no row is an error that says of which class") {
  const auto data = test::make_synthetic(40, 3, 4, 1);
  const auto fit = [&](ConjNorm::Partition partition) {
    fitted(data, {.partition = partition, .share = 1e-6});
  };
  CHECK_THROWS_WITH_AS(fit(ConjNorm::Partition::pooled),
                       "conjnorm.fit: a share of 1e-06 draws 0 rows, expected 1 or more",
                       std::domain_error);
  CHECK_THROWS_WITH_AS(fit(ConjNorm::Partition::per_class),
                       "conjnorm.fit: a share of 1e-06 draws 0 rows of class 0, expected 1 or more",
                       std::domain_error);
}

TEST_CASE("conjnorm: antithetic pairs need an even number of samples") {
  CHECK(message_of(
            {.partition = ConjNorm::Partition::importance, .samples = 33, .antithetic = true}) ==
        "conjnorm.fit: samples has 33, expected an even number, 2 or more, for antithetic pairs");
}

TEST_CASE("conjnorm: the state of one row in a class has no standard error") {
  auto data = test::make_synthetic(41, 3, 4, 1);
  std::ranges::replace(data.labels, std::int64_t{3}, std::int64_t{2});
  data.labels[40] = 3;
  const auto detector = fitted(data, {.partition = ConjNorm::Partition::per_class});
  CHECK(detector.class_rows()[3] == 1);
  CHECK(std::isnan(detector.standard_error()[3]));
  CHECK(detector.effective_samples()[3] == 1);
  CHECK(detector.standard_error()[2] > 0);
}
