/// Counter-based random numbers: what is drawn for an item depends on seed, stream and item alone,
/// so that a result has the same bits for any number of threads and any cut into batches.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>

namespace ood {

/// The 32-bit words of one item of a stream: Philox4x32-10 (Salmon et al., SC 2011) keyed by the
/// seed, with (item, stream) in the upper words of the counter. A uniform random bit generator for
/// the distributions of <random>; those of another standard library give other numbers. Up to 2^34
/// words.
class ItemRandom {
 public:
  using result_type = std::uint32_t;
  ItemRandom(std::uint64_t seed, std::uint32_t stream, std::uint64_t item)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
        counter_{0, stream, static_cast<std::uint32_t>(item),
                 static_cast<std::uint32_t>(item >> 32)} {}

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }
  result_type operator()() {
    if (used_ == words_.size()) refill();
    return words_[used_++];
  }

 private:
  void refill();

  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> words_{};
  std::size_t used_ = 4;
};

/// A number in [0, 1) for an item, with 32 bits.
inline double uniform(std::uint64_t seed, std::uint32_t stream, std::uint64_t item) {
  return ItemRandom(seed, stream, item)() * 0x1p-32;
}

/// Standard normal numbers for an item, out.size() of them: each pair of words (a, b) gives
/// sqrt(-2 log u) cos t and sqrt(-2 log u) sin t, u = (a + 1) 2^-32, t = 2 pi b 2^-32 (Box &
/// Muller, 1958). Up to 6.7 from 0. The same with every standard library, but for the last digits of log,
/// cos and sin.
void fill_normal(std::uint64_t seed, std::uint32_t stream, std::uint64_t item,
                 std::span<double> out);

}  // namespace ood
