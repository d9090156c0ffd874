// What is WeiPer's own, beside the reference values and the contract.
#include "ood/detectors/weiper.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ood/registry.h"

using namespace ood;

namespace {

const Head& head() {
  static const Head same{.weight = Matrix::Identity(2, 2), .bias = Vector::Zero(2)};
  return same;
}

std::vector<float> scores_of(const Weiper::Options& options, const Matrix& z) {
  // Bins of [-1/4, 1/2) and [1/2, 5/4): each row has one entry in each, P = (1/2, 1/2)
  const Matrix train = (Matrix(4, 2) << 0, 1, 1, 0, 0, 1, 1, 0).finished();
  Batch rows, batch;
  rows.features = train;
  batch.features = z;
  MemorySource source(rows, &head());
  Weiper weiper(options);
  weiper.fit(source);
  return weiper.score(batch);
}

}  // namespace

TEST_CASE("weiper: by hand, of the features") {
  Matrix z(3, 2);
  z << 0, 0, 0, 1, 5, 5;
  Weiper::Options options{.copies = 1, .delta = 1e-6, .lambda1 = 0, .lambda2 = 0, .window1 = 1};
  options.bins = 2;
  // Q = (1, 0): p = (1/2, 1/2), q = (1.01, 0.01) / 1.02, K = (q_1 - 1/2) log(q_1 / q_2)
  const double one_bin = (1.01 / 1.02 - 0.5) * std::log(101.0);
  auto scores = scores_of(options, z);
  CHECK(scores[0] == doctest::Approx(-one_bin).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(0).epsilon(1e-6));
  CHECK(scores[2] == doctest::Approx(0).epsilon(1e-6));  // in no bin: q is uniform
  // A window of two, the own bin and the one to the right: (1/2, 0), as beyond the end stands 0
  options.window1 = 2;
  const double smoothed = (0.51 / 0.52 - 0.5) * std::log(51.0);
  CHECK(scores_of(options, z)[0] == doctest::Approx(-smoothed).epsilon(1e-6));
  // Logits are (0, 1) as the perturbation is so small: p_max = e / (1 + e)
  options.lambda2 = 10;
  CHECK(scores_of(options, z)[1] ==
        doctest::Approx(10 * std::exp(1.0) / (1 + std::exp(1.0))).epsilon(1e-5));
  // and their histogram is that of the features, with another epsilon and window
  options.lambda1 = 1;
  options.lambda2 = 0;
  options.window2 = 1;
  const double of_logits = (1.025 / 1.05 - 0.5) * std::log(41.0);
  CHECK(scores_of(options, z)[0] == doctest::Approx(-smoothed - of_logits).epsilon(1e-5));
}

TEST_CASE("weiper: features that do not vary are an error") {
  const Matrix same = Matrix::Ones(4, 2);
  Batch rows;
  rows.features = same;
  MemorySource source(rows, &head());
  Weiper weiper;
  CHECK_THROWS_WITH_AS(weiper.fit(source),
                       "weiper.fit: features range from 1 to 1, expected finite numbers that vary",
                       std::domain_error);
}

TEST_CASE("weiper: presets") {
  const auto options =
      make_detector("weiper", {{"preset", std::string("imagenet-vit")}})->options();
  const auto value = [&](const std::string& name) {
    for (const OptionInfo& option : options)
      if (option.name == name) return to_text(option.value);
    return std::string();
  };
  CHECK(value("bins") == "80");
  CHECK(value("delta") == "2");
  CHECK(value("window1") == "40");
}
