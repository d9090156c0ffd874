/// Wording of errors, in one place: `<who>: <what> has <got>, expected <want>`.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string_view>

namespace ood {

template <class... Args>
[[noreturn]] void throw_invalid(fmt::format_string<Args...> format, Args&&... args) {
  throw std::invalid_argument(fmt::format(format, std::forward<Args>(args)...));
}

/// Runs `work`; what it throws about its input is passed on with who was at work: `<who><method>`.
template <class Work>
void with_context(std::string_view who, std::string_view method, const Work& work) {
  try {
    work();
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(fmt::format("{}{}: {}", who, method, error.what()));
  } catch (const std::domain_error& error) {
    throw std::domain_error(fmt::format("{}{}: {}", who, method, error.what()));
  }
}
template <class Work>
void with_context(std::string_view who, const Work& work) {
  with_context(who, "", work);
}

}  // namespace ood
