// Options of detectors that their defaults do not reach, on a device.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "device/emulated_queue.h"
#include "ood/detectors.h"
#include "ood/kernels/margins.h"
#include "ood/registry.h"
#include "synthetic.h"

using namespace ood;

namespace {

constexpr Exec kDevice = {.threads = 1, .device = {Device::Kind::cuda, 0}};

using Options = std::vector<std::pair<std::string, OptionValue>>;

}  // namespace

TEST_CASE("device margins: options other than the defaults") {
  using namespace std::string_literals;
  const auto emulated = test::device_to_test();
  const auto train = test::make_everything(500, 19, 4, 7);
  auto queries = test::make_everything(130, 19, 4, 8);
  queries.spoil(5, NAN);
  queries.spoil(77, INFINITY);
  const std::vector<std::pair<std::string, Options>> cases = {
      {"fdbd", {{"normalizer", "norm"s}}},
      {"nci", {{"alpha", 0.0}}},
      {"nci", {{"alpha", 0.1}}},
      {"cadref", {{"confidence", "max_logit"s}}},
      {"cadref", {{"confidence", "msp"s}}},
      {"cadref", {{"confidence", "gen"s}}},
      {"she", {{"metric", "euclidean"s}}},
      {"she", {{"metric", "cosine"s}}},
      {"gradnorm", {{"temperature", 3.0}}},
      {"neco", {{"max_logit_factor", false}}},
      {"neco", {{"dim", Index{7}}}},
      {"kl_matching", {{"match", "all"s}}},
      {"kl_matching", {{"match", "predicted"s}}},
      {"openmax", {{"alpha", Index{2}}, {"tail", Index{5}}}},
      {"nac", {{"bins", Index{8}}, {"alpha", 3.0}}},
      {"wdiscood", {{"discriminants", Index{2}}, {"residual_weight", 0.5}}}};
  for (const auto& one : cases) {
    CAPTURE(one.first);
    CAPTURE(one.second[0].first);
    const auto detector = make_detector(one.first);
    for (const auto& option : one.second) detector->set_options({{option.first, option.second}});
    MemorySource source(train.batch(), &train.head);
    detector->fit(source);
    const auto expected = detector->score(queries.batch());
    const auto scores = detector->score(queries.batch(), kDevice);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      CAPTURE(i);
      if (i == 5 || i == 77)
        CHECK(std::isnan(scores[i]));
      else if (scores[i] != expected[i])  // both may be infinite
        CHECK(scores[i] == doctest::Approx(expected[i]).epsilon(1e-5));
    }
  }
}

TEST_CASE("device margins: rows without a prediction, and what is 0 over 0") {
  const Matrix x = (Matrix(3, 2) << 1, 2, 0, 0, 1, 0).finished();
  const std::vector<Index> predicted = {-1, 0, 1};
  const Matrix zeros = Matrix::Zero(2, 2), ones = Matrix::Ones(2, 2);
  const Matrix logits = (Matrix(3, 2) << 1, 0, 3, 3, 0, 2).finished();
  const std::vector<float> lengths = {1, 0, 4};
  const auto check = [&] {
    std::vector<float> out(3);
    kernels::row_mean_margin(logits, predicted, ones, lengths, out);
    CHECK(std::isnan(out[0]));
    CHECK(out[1] == 0);  // 0 over a length of 0
    CHECK(out[2] == 0.5f);
    kernels::row_relative_error(x, predicted, zeros, ones, lengths, 2, out);
    CHECK(std::isnan(out[0]));
    CHECK(out[1] == 0);
    CHECK(out[2] == -0.25f);  // up 1 over a confidence of 4, down 0
    kernels::row_widest_angle(x, VectorD::Zero(2), logits, VectorD::Zero(2), predicted, ones, out);
    CHECK(std::isnan(out[0]));
    CHECK(out[1] == 0);
    // |r|^2 = 1, q = 1, a = h = 2: along -3, across 0
    CHECK(out[2] == 1);
  };
  check();
  const test::KernelsAsOnDevice lanes;
  check();
}

TEST_CASE("device margins: shapes are checked") {
  const Matrix x = Matrix::Ones(3, 2);
  std::vector<float> out(3), short_out(2);
  CHECK_THROWS_WITH_AS(kernels::row_affine(x, VectorD::Zero(3), 0, out),
                       "row_affine: weight has 3 entries, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_regret(x, out, short_out),
                       "row_regret: out has 2 entries, expected 3", std::invalid_argument);
  CHECK_THROWS_WITH_AS(
      kernels::row_mean_margin(x, std::vector<Index>(3), Matrix::Ones(2, 3), out, out),
      "row_mean_margin: distances has shape [2, 3], expected [2, 2]", std::invalid_argument);
}
