#include <fmt/ranges.h>

#include "cli/commands.h"
#include "ood/dataset.h"
#include "ood/exec.h"
#include "ood/kernels.h"
#include "ood/version.h"

namespace ood::cli {

namespace {

/// Those that products have here.
std::string precisions() {
  if (kernels::available(kernels::Precision::bfloat16) == kernels::Precision::float32)
    return "float32 (bfloat16 needs AVX512_BF16 or AMX, and an OOD_SIMD not below AVX3; float32 "
           "stands in for it)";
  return fmt::format("{}", fmt::join(kernels::kPrecisions, ", "));
}

void run() {
  print(
      fmt::format("version: {}\n"
                  "simd: {} (this machine has {}; OOD_SIMD=<target> forces one)\n"
                  "products: {}\n"
                  "precision: {}\n"
                  "threads: {}\n"
                  "hdf5: {}\n"
                  "cuda: not built\n",
                  OOD_VERSION, kernels::simd_target(), fmt::join(kernels::simd_targets(), ", "),
                  kernels::matmul_backend(), precisions(), thread_count({}), hdf5_version()));
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  app.add_subcommand("info", "Show version, instruction set, threads and libraries")
      ->callback([&action] {
        action = [] {
          run();
          return kDone;
        };
      });
}

}  // namespace ood::cli
