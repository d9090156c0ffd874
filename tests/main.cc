#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "ood/kernels.h"

int main(int argc, char** argv) {
  if (const char* target = std::getenv("OOD_SIMD"); target != nullptr && *target != '\0') {
    const auto targets = ood::kernels::simd_targets();
    if (std::ranges::find(targets, target) == targets.end()) {
      std::printf("skipped: this machine or build has no SIMD target %s\n", target);
      return OOD_SKIP_CODE;
    }
  }
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (result == 0 && context.shouldExit()) return 0;
  return result;
}
