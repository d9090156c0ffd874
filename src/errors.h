/// Wording of errors, in one place: `<who>: <what> has <got>, expected <want>`.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace ood {

template <class... Args>
[[noreturn]] void throw_invalid(fmt::format_string<Args...> format, Args&&... args) {
  throw std::invalid_argument(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ood
