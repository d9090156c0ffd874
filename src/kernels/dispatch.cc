#include "kernels/dispatch.h"

#include <fmt/ranges.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "errors.h"
#include "kernels/matmul_isa.h"
#include "ood/kernels.h"

namespace ood::kernels {

namespace {

/// What the machine has and the build holds, the best (lowest bit) first; read before any is
/// disabled.
const std::vector<std::int64_t>& machine_targets() {
  static const std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();
  return targets;
}

/// Restricts the dispatch of this process to targets up to the one that OOD_SIMD names, and returns
/// the name of the target that is used.
std::string apply_environment() {
  const auto names = simd_targets();
  const char* wanted = std::getenv("OOD_SIMD");
  std::string target = names.front();
  if (wanted != nullptr && *wanted != '\0') {
    const auto found = std::ranges::find(names, wanted);
    if (found == names.end())
      throw_invalid("OOD_SIMD has {}, expected one of {}", wanted, fmt::join(names, ", "));
    std::int64_t better = 0;
    for (std::ptrdiff_t i = 0; i < found - names.begin(); ++i)
      better |= machine_targets()[static_cast<std::size_t>(i)];
    hwy::DisableTargets(better);
    limit_matmul_isa(*found);
    target = *found;
  }
  // Once, and last: SupportedTargets() itself chooses among all targets, also those disabled
  const auto supported = hwy::SupportedTargets();
  hwy::GetChosenTarget().Update(supported);
  return target;
}

const std::string& target_in_use() {
  static const std::string target = apply_environment();
  return target;
}

}  // namespace

void ensure_simd_target() { target_in_use(); }

std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  for (const auto target : machine_targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

std::string simd_target() { return target_in_use(); }

}  // namespace ood::kernels
