// The k nearest rows of a bank, from tiles of products.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/nearest.cc"
#include <hwy/foreach_target.h>
// after foreach_target.h
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/vector-inl.h"
#include "ood/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace ood::kernels {
namespace HWY_NAMESPACE {

/// Writes the places j of one row with dots_j - half_norms_j > threshold, and those keys, from j =
/// begin on, until `capacity` are found or the row ends. Returns how many; `begin` becomes where it
/// stopped. Adds to `poison` what is not a number.
size_t FindAbove(const float* dots, const float* half_norms, size_t n, float threshold,
                 size_t capacity, size_t& begin, float& poison, std::uint32_t* places,
                 float* keys) {
  const F32 d;
  const size_t lanes = hn::Lanes(d);
  const V32 limit = hn::Set(d, threshold);
  V32 bad = hn::Zero(d);
  HWY_ALIGN float lane_keys[HWY_MAX_BYTES / sizeof(float)];
  size_t found = 0, j = begin;
  for (; j < n && found + lanes <= capacity; j += lanes) {
    const bool whole = j + lanes <= n;
    const V32 dot = whole ? hn::LoadU(d, dots + j) : load_tail(d, dots + j, n - j, dots[j]);
    const V32 half =
        whole ? hn::LoadU(d, half_norms + j) : load_tail(d, half_norms + j, n - j, half_norms[j]);
    const V32 key = hn::Sub(dot, half);
    bad = add_poison(bad, key);
    if (hn::AllFalse(d, hn::Gt(key, limit))) continue;
    hn::Store(key, d, lane_keys);
    for (size_t lane = 0; lane < std::min(lanes, n - j); ++lane) {
      if (!(lane_keys[lane] > threshold)) continue;
      places[found] = static_cast<std::uint32_t>(j + lane);
      keys[found++] = lane_keys[lane];
    }
  }
  begin = j;
  poison += sum_lanes(bad);
  return found;
}

}  // namespace HWY_NAMESPACE
}  // namespace ood::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/shapes.h"
#include "kernels/dispatch.h"

namespace ood::kernels {

HWY_EXPORT(FindAbove);

namespace {
constexpr size_t kFoundAtOnce = 256;
}

NearestRows::NearestRows(Index queries, Index k)
    : k_(k),
      candidates_(static_cast<size_t>(queries)),
      thresholds_(static_cast<size_t>(queries), -std::numeric_limits<float>::infinity()),
      invalid_(static_cast<size_t>(queries), 0) {
  if (k < 1) throw_invalid("NearestRows: k has {}, expected 1 or more", k);
}

void NearestRows::shrink(std::vector<Candidate>& candidates, float& threshold) const {
  // Equal keys: the lower row is nearer. Rows come in ascending order, so what comes later must be
  // strictly above the k-th key to count.
  const auto nearer = [](const Candidate& a, const Candidate& b) {
    return a.key != b.key ? a.key > b.key : a.row < b.row;
  };
  const auto kth = candidates.begin() + (k_ - 1);
  std::ranges::nth_element(candidates, kth, nearer);
  threshold = kth->key;
  candidates.resize(static_cast<size_t>(k_));
}

void NearestRows::update(const MatrixView& dots, std::span<const float> half_norms,
                         Index first_row) {
  ensure_simd_target();
  require_size("NearestRows.update", "half_norms", half_norms.size(), dots.cols());
  require_size("NearestRows.update", "queries", static_cast<size_t>(dots.rows()),
               static_cast<Index>(candidates_.size()));
  const auto n = static_cast<size_t>(dots.cols());
  const auto limit = static_cast<size_t>(k_) + std::max(static_cast<size_t>(k_), kFoundAtOnce);
  std::uint32_t places[kFoundAtOnce];
  float keys[kFoundAtOnce];
  for (size_t i = 0; i < candidates_.size(); ++i) {
    auto& candidates = candidates_[i];
    float poison = 0;
    for (size_t begin = 0; begin < n;) {
      const size_t found = HWY_DYNAMIC_DISPATCH(FindAbove)(
          dots.row_data(static_cast<Index>(i)), half_norms.data(), n, thresholds_[i], kFoundAtOnce,
          begin, poison, places, keys);
      for (size_t f = 0; f < found; ++f)
        candidates.push_back({keys[f], first_row + static_cast<Index>(places[f])});
      if (candidates.size() >= limit) shrink(candidates, thresholds_[i]);
    }
    if (poison != 0.0f) invalid_[i] = 1;  // NaN != 0
  }
}

std::vector<Index> NearestRows::kth() const {
  std::vector<Index> rows(candidates_.size(), -1);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (invalid_[i]) continue;
    if (std::ssize(candidates_[i]) < k_)
      throw_invalid("NearestRows.kth: {} rows seen, expected {} or more", candidates_[i].size(),
                    k_);
    auto candidates = candidates_[i];
    float threshold = 0;
    shrink(candidates, threshold);
    rows[i] = candidates[static_cast<size_t>(k_ - 1)].row;
  }
  return rows;
}

}  // namespace ood::kernels
#endif
