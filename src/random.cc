#include "ood/random.h"

#include <Random123/philox.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ood {

void ItemRandom::refill() {
  r123::Philox4x32::ctr_type counter;
  r123::Philox4x32::key_type key;
  std::ranges::copy(counter_, counter.begin());
  std::ranges::copy(key_, key.begin());
  std::ranges::copy(r123::Philox4x32()(counter, key), words_.begin());
  ++counter_[0];
  used_ = 0;
}

void fill_normal(std::uint64_t seed, std::uint32_t stream, std::uint64_t item,
                 std::span<double> out) {
  ItemRandom random(seed, stream, item);
  for (std::size_t i = 0; i < out.size(); i += 2) {
    const double u = (random() + 1.0) * 0x1p-32, t = 2 * std::numbers::pi * (random() * 0x1p-32);
    const double length = std::sqrt(-2 * std::log(u));
    out[i] = length * std::cos(t);
    if (i + 1 < out.size()) out[i + 1] = length * std::sin(t);
  }
}

}  // namespace ood
