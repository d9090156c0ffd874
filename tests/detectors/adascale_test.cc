// AdaSCALE by hand, beside the reference values and the contract.
#include "ood/detectors/adascale.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "synthetic.h"

using namespace ood;

namespace {

/// One logit, which is the score.
const Head kHead{.weight = (Matrix(1, 4) << 1, 10, 100, 1000).finished(),
                 .bias = Vector::Constant(1, 0.5f)};

/// Rows and their one perturbed copy.
struct Rows {
  Matrix features, logits;
  Tensor3 copies;

  Rows(const Matrix& z, const Matrix& moved)
      : features(z),
        logits(Matrix::Constant(z.rows(), 1, 3)),
        copies(Tensor3::from_shape(
            {1, static_cast<std::size_t>(z.rows()), static_cast<std::size_t>(z.cols())})) {
    std::copy(moved.data(), moved.data() + moved.size(), copies.data());
  }
  Batch batch() const {
    Batch batch;
    batch.features = features;
    batch.logits = logits;
    batch.copy_features.emplace(test::Everything::view_of(copies));
    return batch;
  }
};

// k1 is 2 entries, k2 one, and a percentile of 25, 50, 75 keeps 3, 2, 1 of 4 entries
const OptionMap kOptions = {
    {"k1", 50.0}, {"k2", 25.0}, {"percentile_min", 25.0}, {"percentile_max", 75.0}};

AdaScale fitted(const OptionMap& more) {
  // q = 3 + 0 + 10 |4 - 3| = 13: what is below 0 or not among the largest does not count; q = 7
  const Matrix z = (Matrix(2, 4) << 4, 3, 0, 0, 4, 3, 2, 1).finished();
  const Matrix moved = (Matrix(2, 4) << 3, -1, 9, 9, 4, 3, 2, 1).finished();
  const Rows rows(z, moved);
  MemorySource source(rows.batch(), &kHead);
  AdaScale detector;
  detector.set_options(kOptions);
  detector.set_options(more);
  detector.fit({.id_val = &source});
  return detector;
}

const Rows& queries() {
  static const Rows rows((Matrix(6, 4) << 4, 3, 2, 1,  // q = 7: F = 1/2, 2 entries
                          4, 3, 2, 1,                  // q = 4 + 3 + 10: F = 1, 3 entries
                          4, 3, 2, 1,                  // q = 4 + 2: F = 0, one entry
                          0, 0, 0, 0,                  // ratio 1
                          4, -1, 2, 1,                 // q = 4 + 2: F = 0, one entry
                          4, 3, 2, 1)
                             .finished(),
                         (Matrix(6, 4) << 4, 3, 2, 1, 3, 4, 2, 1, 4, 2, 2, 1, 0, 0, 0, 0, 4, -1, 2,
                          1, 4, 3, 2, std::numeric_limits<float>::infinity())
                             .finished());
  return rows;
}

}  // namespace

TEST_CASE("adascale: by hand, features scaled") {
  const auto scores = fitted({}).score(queries().batch());
  CHECK(scores[0] == doctest::Approx(1234 * std::exp(10.0 / 7) + 0.5).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(1234 * std::exp(10.0 / 9) + 0.5).epsilon(1e-6));
  CHECK(scores[2] == doctest::Approx(1234 * std::exp(10.0 / 4) + 0.5).epsilon(1e-6));
  CHECK(scores[3] == doctest::Approx(0.5).epsilon(1e-6));
  // 0 in the sums, but not in the product
  CHECK(scores[4] == doctest::Approx(1194 * std::exp(7.0 / 4) + 0.5).epsilon(1e-6));
  CHECK(std::isnan(scores[5]));
}

TEST_CASE("adascale: by hand, logits scaled") {
  const auto scores = fitted({{"variant", std::string("l")}}).score(queries().batch());
  CHECK(scores[0] == doctest::Approx(300.0 / 49).epsilon(1e-6));
  CHECK(scores[1] == doctest::Approx(300.0 / 81).epsilon(1e-6));
  CHECK(scores[2] == doctest::Approx(300.0 / 16).epsilon(1e-6));
  CHECK(scores[3] == doctest::Approx(3).epsilon(1e-6));
  CHECK(scores[4] == doctest::Approx(147.0 / 16).epsilon(1e-6));
  CHECK(std::isnan(scores[5]));
}

TEST_CASE("adascale: what it needs follows the variant") {
  AdaScale detector;
  CHECK(detector.needs().fit.head);
  CHECK_FALSE(detector.needs().score.logits);
  CHECK(detector.needs().split == Split::id_val);
  detector.set_options({{"variant", std::string("l")}});
  CHECK_FALSE(detector.needs().fit.head);
  CHECK(detector.needs().score.logits);
}

TEST_CASE("adascale: options that do not fit each other or the copies are errors") {
  CHECK_THROWS_WITH_AS(fitted({{"percentile_min", 80.0}}),
                       "adascale.fit: percentile_min has 80, expected at most percentile_max, 75",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(fitted({{"copy", Index{1}}}),
                       "adascale.fit: copy has 1, expected below the number of copies, 1",
                       std::domain_error);
  CHECK_THROWS_WITH_AS(fitted({{"k1", 0.0}}),
                       "adascale: option k1 has 0, expected a number, above 0, 100 or less",
                       std::invalid_argument);
}
