/// Options for tests that fit every detector.
#pragma once

#include <map>
#include <string>

#include "ood/detector.h"

namespace ood::test {

/// Where a fit with the defaults takes seconds, options with which it does not: what such tests are about is the same.
inline OptionMap quick_options(const std::string& name) {
  static const std::map<std::string, OptionMap> quick = {{"corp", {{"dimension", Index{128}}}}};
  const auto found = quick.find(name);
  return found == quick.end() ? OptionMap() : found->second;
}

}  // namespace ood::test
