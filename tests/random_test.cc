#include "ood/random.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <vector>

using namespace ood;

namespace {

std::vector<std::uint32_t> words(ItemRandom random, int count) {
  std::vector<std::uint32_t> drawn;
  for (int i = 0; i < count; ++i) drawn.push_back(random());
  return drawn;
}

}  // namespace

TEST_CASE("random: the known answer of Philox4x32-10 for counter 0 and key 0") {
  // kat_vectors of Random123, also in Salmon et al., SC 2011
  CHECK(words(ItemRandom(0, 0, 0), 4) ==
        std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
}

TEST_CASE("random: items, streams and seeds, also beyond 32 bits, do not share words") {
  std::set<std::uint32_t> seen;
  const std::uint64_t high = std::uint64_t{1} << 32;
  std::size_t drawn = 0;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, high})
    for (const std::uint32_t stream : {0u, 1u})
      for (const std::uint64_t item : {std::uint64_t{0}, std::uint64_t{1}, high}) {
        for (const std::uint32_t word : words(ItemRandom(seed, stream, item), 8)) seen.insert(word);
        drawn += 8;
        CHECK(words(ItemRandom(seed, stream, item), 8) == words(ItemRandom(seed, stream, item), 8));
      }
  CHECK(seen.size() == drawn);  // 144 words out of 2^32: two equal ones by chance in 1 of 400,000
}

TEST_CASE("random: uniform numbers of consecutive items have the moments of their distribution") {
  constexpr int kCount = 100'000;
  double sum = 0, squares = 0, products = 0, before = 0.5;
  for (int i = 0; i < kCount; ++i) {
    const double u = uniform(7, 3, static_cast<std::uint64_t>(i));
    CHECK((u >= 0 && u < 1));
    sum += u - 0.5;
    squares += (u - 0.5) * (u - 0.5);
    products += (u - 0.5) * (before - 0.5);
    before = u;
  }
  // 5 standard errors: of the mean 1/sqrt(12 n), of the square 1/sqrt(180 n), of the product 1/12/sqrt(n)
  CHECK(std::abs(sum / kCount) < 5 * 0.289 / 316);
  CHECK(std::abs(squares / kCount - 1.0 / 12) < 5 * 0.0745 / 316);
  CHECK(std::abs(products / kCount) < 5 * 0.0833 / 316);
}

TEST_CASE("random: normal numbers come from pairs of words by Box and Muller's formula") {
  // The words of the known answer above: u = 0x6627e8d6 / 2^32, t = 2 pi 0xe169c58d / 2^32
  std::vector<double> normals(3), two(2);
  fill_normal(0, 0, 0, normals);
  const double length = std::sqrt(-2 * std::log(0x6627e8d6p-32)), turn = 0xe169c58dp-32;
  CHECK(normals[0] == doctest::Approx(length * std::cos(2 * 3.141592653589793 * turn)));
  CHECK(normals[1] == doctest::Approx(length * std::sin(2 * 3.141592653589793 * turn)));
  fill_normal(0, 0, 0, two);
  CHECK(two[0] == normals[0]);
  CHECK(two[1] == normals[1]);
}

TEST_CASE("random: normal numbers have the moments of their distribution") {
  constexpr std::size_t kCount = 100'000;
  std::vector<double> normals(kCount);
  fill_normal(7, 3, 5, normals);
  double sum = 0, squares = 0, products = 0, fourth = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double x = normals[i];
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    if (i > 0) products += x * normals[i - 1];
  }
  // 5 standard errors: 1, sqrt(2), sqrt(96) and 1, over sqrt(n) = 316
  CHECK(std::abs(sum / kCount) < 5 / 316.0);
  CHECK(std::abs(squares / kCount - 1) < 5 * 1.42 / 316);
  CHECK(std::abs(fourth / kCount - 3) < 5 * 9.8 / 316);
  CHECK(std::abs(products / kCount) < 5 / 316.0);
}
