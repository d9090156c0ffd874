/// What a misspelt name may have meant.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ood {

/// ", did you mean knn or nnguide?" with those of `known` that differ from `name` in few letters or
/// hold it; else ", expected one of ..." with all that are known.
std::string near_matches(std::string_view name, std::span<const std::string> known);

}  // namespace ood
