#include "ood/random.h"

#include <Random123/philox.h>

#include <algorithm>

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

}  // namespace ood
