#include "ood/fields.h"

#include <fmt/ranges.h>

#include <cmath>

namespace ood {

bool Range::contains(double value) const {
  return std::isfinite(value) && (open_min ? value > min : value >= min) && value <= max;
}

std::string Range::text() const {
  std::string text = std::isfinite(min) ? (open_min ? fmt::format("above {}", min)
                                                    : fmt::format("{} or more", min))
                                        : "finite";
  if (std::isfinite(max)) text += fmt::format(", {} or less", max);
  return text;
}

std::string to_text(const OptionValue& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string>)
          return v;
        else if constexpr (std::is_same_v<T, std::vector<double>>)
          return fmt::format("{}", fmt::join(v, ","));
        else
          return fmt::format("{}", v);
      },
      value);
}

}  // namespace ood
