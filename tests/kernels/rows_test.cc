#include <doctest/doctest.h>

#include <array>

#include "kernels/reference.h"
#include "kernels/row_kernel_contract.h"

using namespace ood;
using namespace ood::test;

namespace {

using Row = std::span<const float>;

void check_contract(const RowKernel& kernel) {
  check_depends_on_row_alone(kernel);
  check_not_a_number(kernel);
  check_no_rows(kernel);
}

double length(Row x) { return static_cast<double>(x.size()); }

/// max_j (max x - x_j) / T over the terms that count: exp(-104) is 0 in float32.
double range(Row x, double temperature = 1) {
  const double largest = reference::max(x);
  double far = 0;
  for (const float v : x) {
    const double below = (largest - v) / temperature;
    if (below < 104) far = std::max(far, below);
  }
  return far;
}

constexpr std::array kTemperatures = {1.0f, 0.3f, 1e-3f, 1000.0f};

RowKernel log_max_probability_at(float temperature) {
  return [temperature](const MatrixView& x, std::span<float> out) {
    kernels::row_log_max_probability(x, temperature, out);
  };
}

RowKernel log_odds_at(float temperature) {
  return [temperature](const MatrixView& x, std::span<float> out) {
    kernels::row_log_odds(x, temperature, out);
  };
}

RowKernel distance_from_uniform_at(float temperature) {
  return [temperature](const MatrixView& x, std::span<float> out) {
    kernels::row_distance_from_uniform(x, temperature, out);
  };
}

/// k = share d, at least 1.
RowKernel kth_largest_of(double share) {
  return [share](const MatrixView& x, std::span<float> out) {
    const auto k = static_cast<Index>(share * static_cast<double>(x.cols()));
    kernels::row_kth_largest(x, std::clamp(k, Index{1}, std::max(Index{1}, x.cols())), out);
  };
}

/// Relative to the same threshold for all rows; float32, as the contract has it.
RowKernel sum_above(float threshold) {
  return [threshold](const MatrixView& x, std::span<float> out) {
    const std::vector<float> t(out.size(), threshold);
    std::vector<double> sums(out.size());
    kernels::row_sum_above(x, t, sums);
    std::ranges::transform(sums, out.begin(), [](double s) { return static_cast<float>(s); });
  };
}

RowKernel negative_gini_at(float temperature) {
  return [temperature](const MatrixView& x, std::span<float> out) {
    kernels::row_negative_gini(x, temperature, out);
  };
}

RowKernel log_sum_exp_at(float temperature) {
  return [temperature](const MatrixView& x, std::span<float> out) {
    kernels::row_log_sum_exp(x, temperature, out);
  };
}

RowKernel generalized_entropy_of(float gamma, Index top) {
  return [gamma, top](const MatrixView& x, std::span<float> out) {
    kernels::row_generalized_entropy(x, gamma, top, out);
  };
}

}  // namespace

TEST_CASE("row_max: every row on its own") { check_contract(kernels::row_max); }

TEST_CASE("row_max: exact") {
  check_error(kernels::row_max, kLogitPatterns, [](Row x) {
    return Expected{reference::max(x), 0};
  });
}

TEST_CASE("row_max: infinity beside NaN, and the lowest number") {
  const float lowest = std::numeric_limits<float>::lowest();
  const float infinity = std::numeric_limits<float>::infinity();
  Matrix x(3, 2);
  x << lowest, lowest, infinity, std::nanf(""), -infinity, -infinity;
  const auto out = run(kernels::row_max, x);
  CHECK(out[0] == lowest);
  CHECK(std::isnan(out[1]));
  CHECK(std::isnan(out[2]));
}

TEST_CASE("row_argmax: the first of the largest entries, -1 for a row with NaN or infinity") {
  for (const Index d : kLengths) {
    CAPTURE(d);
    const float infinity = std::numeric_limits<float>::infinity();
    Random random(4);
    Matrix x(6, d);
    for (float& v : x.reshaped()) v = static_cast<float>(random() % 7) - 8;  // below 0, with ties
    x.row(2).setConstant(std::numeric_limits<float>::lowest());
    x(3, d / 2) = std::nanf("");
    x(4, d - 1) = infinity;
    x(5, 0) = -infinity;
    std::vector<Index> out(6);
    kernels::row_argmax(PlacedRows(x, 1, 2).view(), out);
    for (std::size_t i = 0; i < 3; ++i) {
      const Matrix row = x.row(static_cast<Index>(i));
      CHECK(out[i] == std::max_element(row.data(), row.data() + d) - row.data());
    }
    for (std::size_t i = 3; i < 6; ++i) CHECK(out[i] == -1);
  }
}

TEST_CASE("row_log_sum_exp: every row on its own") {
  check_contract(log_sum_exp_at(1));
  check_depends_on_row_alone(log_sum_exp_at(0.3f));
}

TEST_CASE("row_log_sum_exp: error") {
  for (const float temperature : kTemperatures) {
    CAPTURE(temperature);
    check_error(log_sum_exp_at(temperature), kLogitPatterns, [temperature](Row x) {
      const double value = reference::log_sum_exp(x, temperature);
      return Expected{value, kUnit * (4 * std::abs(value) + temperature * (length(x) + 8))};
    });
  }
}

TEST_CASE("row_log_max_probability: every row on its own") {
  check_contract(log_max_probability_at(1));
  check_depends_on_row_alone(log_max_probability_at(0.3f));
}

TEST_CASE("row_log_max_probability: relative error, also where p is almost 1") {
  for (const float temperature : kTemperatures) {
    CAPTURE(temperature);
    check_error(log_max_probability_at(temperature), kLogitPatterns, [temperature](Row x) {
      const double value = reference::log_max_probability(x, temperature);
      const double share = kUnit * (length(x) + 16 + 4 * range(x, temperature));
      return Expected{value, share * std::abs(value) + kUnderflow * length(x)};
    });
  }
}

TEST_CASE("row_log_odds: every row on its own") {
  check_contract(log_odds_at(1));
  check_depends_on_row_alone(log_odds_at(0.3f));
}

TEST_CASE("row_log_odds: error") {
  for (const float temperature : kTemperatures) {
    CAPTURE(temperature);
    check_error(log_odds_at(temperature), kLogitPatterns, [temperature](Row x) {
      const double value = x.size() == 1 ? std::numeric_limits<double>::infinity()
                                         : reference::log_odds(x, temperature);
      if (value > std::numeric_limits<float>::max())
        return Expected{std::numeric_limits<double>::infinity(), 0};
      return Expected{value,
                      kUnit * (std::abs(value) + length(x) + 16 + 4 * range(x, temperature))};
    });
  }
}

TEST_CASE("row_distance_from_uniform: every row on its own") {
  check_contract(distance_from_uniform_at(1));
  check_depends_on_row_alone(distance_from_uniform_at(0.3f));
}

TEST_CASE("row_distance_from_uniform: relative error, also where p is almost uniform") {
  for (const float temperature : kTemperatures) {
    CAPTURE(temperature);
    check_error(distance_from_uniform_at(temperature), kLogitPatterns, [temperature](Row x) {
      const double value = reference::distance_from_uniform(x, temperature);
      const double share = kUnit * length(x) * (length(x) / lanes() + 16);
      return Expected{value, share * value + kUnderflow * length(x)};
    });
  }
}

TEST_CASE("row_kth_largest: every row on its own") {
  check_contract(kth_largest_of(0));
  check_contract(kth_largest_of(0.4));
}

TEST_CASE("row_kth_largest: exact") {
  for (const double share : {0.0, 0.1, 0.35, 0.5, 0.9, 1.0}) {
    CAPTURE(share);
    for (const auto* patterns : {&kLogitPatterns, &kFeaturePatterns})
      check_error(kth_largest_of(share), *patterns, [share](Row x) {
        const auto k = static_cast<std::size_t>(share * length(x));
        return Expected{reference::kth_largest(x, std::max(k, std::size_t{1})), 0};
      });
  }
}

TEST_CASE("row_kth_largest: every k of numbers that lie next to each other, and around 0") {
  for (const float first : {1.0f, -1.0f, 0.0f, 3e38f}) {
    Matrix x(1, 37);
    float v = first;
    for (Index j = 0; j < x.cols(); ++j) {  // each twice
      x(0, (j * 10) % x.cols()) = v;
      if (j % 2 == 1) v = std::nextafter(v, -std::numeric_limits<float>::infinity());
    }
    std::vector<float> out(1);
    for (Index k = 1; k <= x.cols(); ++k) {
      kernels::row_kth_largest(x, k, out);
      CHECK(out[0] == reference::kth_largest({x.data(), 37}, static_cast<std::size_t>(k)));
    }
    CHECK_THROWS_WITH_AS(kernels::row_kth_largest(x, 0, out),
                         "row_kth_largest: k has 0, expected 1 to 37", std::invalid_argument);
    CHECK_THROWS_WITH_AS(kernels::row_kth_largest(x, 38, out),
                         "row_kth_largest: k has 38, expected 1 to 37", std::invalid_argument);
  }
}

TEST_CASE("row_kth_largest: every k of a few numbers, many times each") {
  for (const Index d : {31, 33, 100}) {
    Random random(5);
    Matrix x(1, d);
    for (float& v : x.reshaped()) v = std::max(0.0f, static_cast<float>(random() % 6) - 3) / 3;
    x(0, 0) = -0.0f;
    std::vector<float> out(1);
    for (Index k = 1; k <= d; ++k) {
      kernels::row_kth_largest(x, k, out);
      CHECK(out[0] == reference::kth_largest({x.data(), static_cast<std::size_t>(d)},
                                             static_cast<std::size_t>(k)));
    }
  }
}

TEST_CASE("row_sum_above: every row on its own") { check_contract(sum_above(0.1f)); }

TEST_CASE("row_sum_above: error, of float64 but for the rounding of this test") {
  for (const float threshold : {-2.0f, 0.0f, 0.5f})
    check_error(sum_above(threshold), kFeaturePatterns, [threshold](Row x) {
      const double value = reference::sum_above(x, threshold);
      return Expected{value, (kUnit + 0x1p-53 * (length(x) + 2)) * value};
    });
}

TEST_CASE("row_sum_above: each row has its threshold") {
  const Matrix x = normal_rows(3, 100, 4);
  const std::vector<float> t = {-1, 0, 0.5f};
  std::vector<double> out(3);
  kernels::row_sum_above(x, t, out);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(out[i] ==
          doctest::Approx(reference::sum_above({x.row(static_cast<Index>(i)).data(), 100}, t[i]))
              .epsilon(1e-14));
}

TEST_CASE("row_negative_gini: every row on its own") {
  check_contract(negative_gini_at(1));
  check_depends_on_row_alone(negative_gini_at(0.3f));
}

TEST_CASE("row_negative_gini: relative error, also where p is almost 1") {
  for (const float temperature : kTemperatures) {
    CAPTURE(temperature);
    check_error(negative_gini_at(temperature), kLogitPatterns, [temperature](Row x) {
      const double value = reference::negative_gini(x, temperature);
      const double share = kUnit * (3 * length(x) + 32 + 8 * range(x, temperature));
      return Expected{value, share * std::abs(value) + kUnderflow * length(x)};
    });
  }
}

TEST_CASE("row_negative_gini: from 1 / d - 1 to 0") {
  for (const Index d : kLengths) {
    CAPTURE(d);
    const Matrix equal = Matrix::Constant(1, d, 7.5f);
    CHECK(run(negative_gini_at(1), equal)[0] ==
          doctest::Approx(1 / static_cast<double>(d) - 1).epsilon(1e-6));
    Matrix sure = equal;
    sure(0, d - 1) = 1e4f;
    CHECK(run(negative_gini_at(1), sure)[0] == 0);
  }
}

TEST_CASE("row_divergence_from_uniform: every row on its own") {
  check_contract(kernels::row_divergence_from_uniform);
}

TEST_CASE("row_divergence_from_uniform: error") {
  check_error(kernels::row_divergence_from_uniform, kLogitPatterns, [](Row x) {
    double below = 0;  // max x - mean x
    for (const float v : x) below += (reference::max(x) - v) / length(x);
    const double value = reference::divergence_from_uniform(x);
    if (value > std::numeric_limits<float>::max())
      return Expected{std::numeric_limits<double>::infinity(), 0};
    return Expected{value, kUnit * (length(x) + 16) * (1 + below)};
  });
}

TEST_CASE("row_divergence_from_uniform: never below 0, and no offset changes equal logits") {
  for (const Index d : kLengths)
    for (const float offset : {0.0f, -7.5f, 1e30f}) {
      CAPTURE(d);
      const Matrix equal = Matrix::Constant(1, d, offset);
      const float out = run(kernels::row_divergence_from_uniform, equal)[0];
      CHECK(out >= 0);
      CHECK(out <= 1e-6);
    }
}

TEST_CASE("row_negative_entropy: every row on its own") {
  check_contract(kernels::row_negative_entropy);
}

TEST_CASE("row_negative_entropy: error") {
  check_error(kernels::row_negative_entropy, kLogitPatterns, [](Row x) {
    const double value = reference::negative_entropy(x);
    return Expected{value, kUnit * (length(x) + 16) * (1 + std::abs(value))};
  });
}

TEST_CASE("row_negative_entropy: relative error, also where p is almost 1") {
  check_error(kernels::row_negative_entropy, kLogitPatterns, [](Row x) {
    const double value = reference::negative_entropy(x);
    return Expected{value, kUnit * (length(x) + 16 + 2 * range(x)) * std::abs(value) +
                               104 * kUnderflow * length(x)};
  });
}

TEST_CASE("row_negative_entropy: from -log d to 0") {
  for (const Index d : kLengths) {
    const Matrix equal = Matrix::Constant(1, d, 7.5f);
    const float lowest = run(kernels::row_negative_entropy, equal)[0];
    CHECK(lowest == doctest::Approx(-std::log(static_cast<double>(d))).epsilon(1e-6));
    Matrix sure = equal;
    sure(0, d - 1) = 1e4f;
    CHECK(run(kernels::row_negative_entropy, sure)[0] == 0);
  }
}

TEST_CASE("row_generalized_entropy: every row on its own") {
  check_contract(generalized_entropy_of(0.1f, 1 << 20));
  check_contract(generalized_entropy_of(0.5f, 3));
}

TEST_CASE("row_generalized_entropy: relative error, also where p is almost 1") {
  for (const float gamma : {0.1f, 0.5f, 1.0f, 2.0f})
    for (const Index top : {1, 2, 10, 100, 342, 1 << 20}) {
      CAPTURE(gamma);
      CAPTURE(top);
      check_error(generalized_entropy_of(gamma, top), kLogitPatterns, [gamma, top](Row x) {
        double value = 0, error = 0;
        const auto terms = reference::generalized_entropy_terms(x, gamma, static_cast<size_t>(top));
        for (const auto& [term, log_p] : terms) {
          value -= term;
          error += kUnit * term *
                   ((length(x) + 16) * (1 + gamma * std::abs(log_p)) + 4 * gamma * range(x));
        }
        return Expected{value, error + kUnderflow * length(x)};
      });
    }
}

TEST_CASE("row_generalized_entropy: the largest are chosen by value, not by place") {
  for (const Index d : {5, 17, 100, 1000}) {
    const Matrix x = normal_rows(4, d, 4, 2);
    Matrix sorted = x;
    for (auto row : sorted.rowwise()) std::sort(row.begin(), row.end());
    const auto out = run(generalized_entropy_of(0.1f, d / 3 + 1), x);
    const auto out_sorted = run(generalized_entropy_of(0.1f, d / 3 + 1), sorted);
    for (std::size_t i = 0; i < out.size(); ++i)
      CHECK(out[i] == doctest::Approx(out_sorted[i]).epsilon(1e-5));
  }
}

TEST_CASE("row_generalized_entropy: ties at the last that counts, among the largest and below") {
  for (const Index d : {40, 100}) {
    Matrix x = Matrix::Constant(1, d, -1.0f);
    for (Index j = 0; j < 5; ++j) x(0, 7 * j) = 1;
    for (const Index top : {2, 5, 9}) {
      CAPTURE(top);
      double value = 0;
      for (const auto& [term, log_p] : reference::generalized_entropy_terms(
               {x.data(), static_cast<std::size_t>(d)}, 0.3, static_cast<std::size_t>(top)))
        value -= term;
      CHECK(run(generalized_entropy_of(0.3f, top), x)[0] == doctest::Approx(value).epsilon(1e-6));
    }
  }
}

TEST_CASE("row kernels: wrong sizes") {
  const Matrix x(2, 3), no_columns(2, 0);
  std::vector<float> out(3), right(2);
  CHECK_THROWS_WITH_AS(kernels::row_max(x, out), "row_max: out has 3 entries, expected 2",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_max(no_columns, right),
                       "row_max: x has 0 columns, expected 1 or more", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_log_sum_exp(x, 1, out),
                       "row_log_sum_exp: out has 3 entries, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_log_max_probability(x, 1, out),
                       "row_log_max_probability: out has 3 entries, expected 2",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_negative_gini(x, 1, out),
                       "row_negative_gini: out has 3 entries, expected 2", std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_divergence_from_uniform(x, out),
                       "row_divergence_from_uniform: out has 3 entries, expected 2",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_negative_entropy(x, out),
                       "row_negative_entropy: out has 3 entries, expected 2",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(kernels::row_generalized_entropy(x, 0.1f, 3, out),
                       "row_generalized_entropy: out has 3 entries, expected 2",
                       std::invalid_argument);
}

TEST_CASE("row kernels: a temperature that is none") {
  const Matrix x(2, 3);
  std::vector<float> out(2);
  for (const float wrong : {0.0f, -1.0f, 1e31f, std::nanf("")}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(kernels::row_log_sum_exp(x, wrong, out), std::invalid_argument);
    CHECK_THROWS_AS(kernels::row_log_max_probability(x, wrong, out), std::invalid_argument);
    CHECK_THROWS_AS(kernels::row_negative_gini(x, wrong, out), std::invalid_argument);
    CHECK_THROWS_AS(kernels::row_log_odds(x, wrong, out), std::invalid_argument);
    CHECK_THROWS_AS(kernels::row_distance_from_uniform(x, wrong, out), std::invalid_argument);
  }
  CHECK_THROWS_WITH_AS(kernels::row_negative_gini(x, 0, out),
                       "row_negative_gini: temperature has 0, expected 1e-30 to 1e30",
                       std::invalid_argument);
}
