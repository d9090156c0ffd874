#include "near_matches.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace ood {

namespace {

constexpr std::size_t kMost = 3;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

/// Letters that are missing, too many, another, or swapped with their neighbour (optimal string
/// alignment); case does not count.
std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, last(b.size() + 1), now(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
          lower(a[i - 2]) == lower(b[j - 1]))
        now[j] = std::min(now[j], before[j - 2] + 1);
    }
    before = std::exchange(last, now);
  }
  return last[b.size()];
}

}  // namespace

std::string near_matches(std::string_view name, std::span<const std::string> known) {
  std::vector<std::pair<std::size_t, std::string>> near;
  if (name.size() <= 100)  // no name is so long
    for (const std::string& other : known) {
      const std::size_t distance = edits(name, other);
      const bool holds = name.size() > 2 && other.find(name) != std::string::npos;
      if (holds || distance <= std::max<std::size_t>(1, name.size() / 3))
        near.emplace_back(distance, other);
    }
  if (near.empty()) return fmt::format(", expected one of {}", fmt::join(known, ", "));
  std::ranges::stable_sort(near, {}, [](const auto& match) { return match.first; });
  std::string text;
  for (std::size_t i = 0; i < std::min(near.size(), kMost); ++i)
    text += fmt::format("{}{}", text.empty() ? ", did you mean " : " or ", near[i].second);
  return text + '?';
}

}  // namespace ood
