/// Rows of every kind that a kernel may meet, by name.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/error_bounds.h"
#include "ood/matrix.h"

namespace ood::test {

using Random = std::mt19937;

/// The same numbers with every standard library, unlike what <random> distributes.
inline float uniform(Random& random, float low, float high) {
  return low + (high - low) * (static_cast<float>(random() >> 8) * 0x1p-24f);
}
/// Near enough: four uniform numbers added up.
inline float normal(Random& random, float deviation = 1) {
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += uniform(random, -1, 1);
  return deviation * 0.8660254f * sum;
}

inline Matrix normal_rows(Index rows, Index cols, std::uint32_t seed, float deviation = 1) {
  Random random(seed);
  Matrix x(rows, cols);
  for (float& v : x.reshaped()) v = normal(random, deviation);
  return x;
}

/// Lengths around the lane counts, and those of real logits and features.
inline const std::vector<Index> kLengths = {1,  2,  3,  4,  5,  7,  8,   9,   15,   16,  17,
                                            31, 32, 33, 63, 64, 65, 100, 342, 1000, 2048};

struct Pattern {
  std::string_view name;
  void (*fill)(Random& random, std::span<float> row);
};

template <int margin>
void fill_dominated(Random& random, std::span<float> row) {
  for (float& v : row) v = uniform(random, -1, 0);
  row[random() % row.size()] = margin;
}

inline const std::vector<Pattern> kLogitPatterns = {
    {"normal",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r, 3);
     }},
    {"large",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r, 1e4f);
     }},
    {"tiny",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r, 1e-4f);
     }},
    {"all equal",
     [](Random&, std::span<float> row) {
       for (float& v : row) v = 1.0f / 3;
     }},
    {"zeros",
     [](Random&, std::span<float> row) {
       for (float& v : row) v = 0;
     }},
    {"one 20 above", fill_dominated<20>},
    {"one 50 above", fill_dominated<50>},
    {"one 90 above", fill_dominated<90>},
    {"one 120 above", fill_dominated<120>},
    {"one 1000 above", fill_dominated<1000>},
    {"negative",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = uniform(r, -50, -1);
     }},
    {"spread",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = uniform(r, -60, 60);
     }},
    {"denormal",
     [](Random& r, std::span<float> row) {
       for (float& v : row)
         v = std::ldexp(static_cast<float>(static_cast<int>(r() % 99) - 49), -149);
     }},
    // The first vector holds the largest entry; to a sum of ones, exp of the others is just too
    // small
    {"many small",
     [](Random&, std::span<float> row) {
       for (std::size_t j = 0; j < row.size(); ++j)
         row[j] = static_cast<double>(j) < lanes() ? 0.0f : -16.7f;
     }},
    {"whole range",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = uniform(r, -1, 1) * 3e38f;
     }},
    // Each entry is the largest up to it
    {"ascending",
     [](Random& r, std::span<float> row) {
       for (std::size_t j = 0; j < row.size(); ++j)
         row[j] = 0.05f * static_cast<float>(j) + uniform(r, 0, 0.05f);
     }},
    {"one 1000 above equal ones",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = -7.5f;
       row[r() % row.size()] = 992.5f;
     }},
    {"two largest",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = uniform(r, -1, 0);
       row[0] = row[r() % row.size()] = 30;
     }},
};

inline const std::vector<Pattern> kFeaturePatterns = {
    {"normal",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r);
     }},
    {"large",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r, 1e4f);
     }},
    {"tiny",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r, 1e-4f);
     }},
    {"all equal",
     [](Random&, std::span<float> row) {
       for (float& v : row) v = 1.0f / 3;
     }},
    {"zeros",
     [](Random&, std::span<float> row) {
       for (float& v : row) v = 0;
     }},
    {"half zeros",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = std::max(0.0f, normal(r));
     }},
    {"one dominates",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r);
       row[r() % row.size()] = 1e5f;
     }},
    {"negative",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = uniform(r, -3, -1);
     }},
    {"many decades",
     [](Random& r, std::span<float> row) {
       for (float& v : row) v = normal(r) * std::pow(10.0f, uniform(r, -15, 15));
     }},
    {"denormal",
     [](Random& r, std::span<float> row) {
       for (float& v : row)
         v = std::ldexp(static_cast<float>(static_cast<int>(r() % 99) - 49), -149);
     }},
    // To a sum of ones, each of the others is just too small
    {"many small",
     [](Random&, std::span<float> row) {
       for (std::size_t j = 0; j < row.size(); ++j)
         row[j] = static_cast<double>(j) < lanes() ? 1.0f : 5.9e-8f;
     }},
};

}  // namespace ood::test
