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

NearestRows::NearestRows(Index queries, Index k, std::span<const float> slack,
                         std::pmr::memory_resource* memory)
    : k_(k),
      slack_(slack.begin(), slack.end(), memory),
      candidates_(static_cast<size_t>(queries), memory),
      thresholds_(static_cast<size_t>(queries), -std::numeric_limits<float>::infinity(), memory),
      invalid_(static_cast<size_t>(queries), 0, memory) {
  if (k < 1) throw_invalid("NearestRows: k has {}, expected 1 or more", k);
  if (!slack.empty()) require_size("NearestRows", "slack", slack.size(), queries);
  for (auto& candidates : candidates_) candidates.reserve(capacity());
}

/// What a query needs as long as few rows are within its slack: no vector grows then.
size_t NearestRows::capacity() const {
  const auto k = static_cast<size_t>(k_);
  return k + std::max(k, kFoundAtOnce) + kFoundAtOnce;
}

void NearestRows::shrink(std::pmr::vector<Candidate>& candidates, float& threshold,
                         float slack) const {
  // Equal keys: the lower row is nearer. Rows come in ascending order, so what comes later must be
  // strictly above the threshold to count.
  const auto nearer = [](const Candidate& a, const Candidate& b) {
    return a.key != b.key ? a.key > b.key : a.row < b.row;
  };
  const auto cut = [&](Index kept) {
    const auto last = candidates.begin() + (kept - 1);
    std::ranges::nth_element(candidates, last, nearer);
    threshold = last->key;
  };
  cut(k_);
  if (slack > 0) {
    threshold -= slack;
    std::erase_if(candidates, [&](const Candidate& c) { return c.key < threshold; });
    if (std::ssize(candidates) <= k_ + kMostCandidates) return;
    cut(k_ + kMostCandidates);
  }
  candidates.resize(static_cast<size_t>(slack > 0 ? k_ + kMostCandidates : k_));
}

void NearestRows::update(const MatrixView& dots, std::span<const float> half_norms,
                         Index first_row) {
  ensure_simd_target();
  require_size("NearestRows.update", "half_norms", half_norms.size(), dots.cols());
  require_size("NearestRows.update", "queries", static_cast<size_t>(dots.rows()),
               static_cast<Index>(candidates_.size()));
  const auto n = static_cast<size_t>(dots.cols());
  std::uint32_t places[kFoundAtOnce];
  float keys[kFoundAtOnce];
  for (size_t i = 0; i < candidates_.size(); ++i) {
    auto& candidates = candidates_[i];
    float poison = 0;
    // room to collect before the next cut, on top of what the last one kept
    const auto room = std::max(static_cast<size_t>(k_), kFoundAtOnce);
    size_t limit = std::max(static_cast<size_t>(k_), candidates.size()) + room;
    for (size_t begin = 0; begin < n;) {
      const size_t found = HWY_DYNAMIC_DISPATCH(FindAbove)(
          dots.row_data(static_cast<Index>(i)), half_norms.data(), n, thresholds_[i], kFoundAtOnce,
          begin, poison, places, keys);
      for (size_t f = 0; f < found; ++f)
        candidates.push_back({keys[f], first_row + static_cast<Index>(places[f])});
      if (candidates.size() < limit) continue;
      shrink(candidates, thresholds_[i], slack_of(i));
      limit = candidates.size() + room;
    }
    if (poison != 0.0f) invalid_[i] = 1;  // NaN != 0
  }
}

std::vector<Index> NearestRows::kth() const {
  std::vector<Index> rows(candidates_.size(), -1);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (invalid_[i]) continue;
    require_seen(candidates_[i].size());
    auto candidates = candidates_[i];
    float threshold = 0;
    shrink(candidates, threshold, 0);
    rows[i] = candidates[static_cast<size_t>(k_ - 1)].row;
  }
  return rows;
}

std::pmr::vector<Index> NearestRows::candidates(Index query,
                                                std::pmr::memory_resource* memory) const {
  const auto i = static_cast<size_t>(query);
  std::pmr::vector<Index> rows(memory);
  if (invalid_[i]) return rows;
  require_seen(candidates_[i].size());
  std::pmr::vector<Candidate> candidates(candidates_[i], memory);
  float threshold = 0;
  shrink(candidates, threshold, slack_of(i));
  rows.reserve(candidates.size());
  for (const Candidate& candidate : candidates) rows.push_back(candidate.row);
  return rows;
}

void NearestRows::require_seen(size_t rows) const {
  if (static_cast<Index>(rows) < k_)
    throw_invalid("NearestRows.kth: {} rows seen, expected {} or more", rows, k_);
}

}  // namespace ood::kernels
#endif
