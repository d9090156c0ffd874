#include <fmt/ranges.h>

#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "ood/dataset.h"
#include "ood/devices.h"
#include "ood/exec.h"
#include "ood/kernels.h"
#include "ood/version.h"

namespace ood::cli {

namespace {

/// Those that products have on the processor.
std::string precisions() {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < kernels::kPrecisions.size(); ++i)
    if (const auto each = static_cast<kernels::Precision>(i); kernels::available(each) == each)
      names.push_back(kernels::kPrecisions[i]);
  return fmt::format("{}{}", fmt::join(names, ", "),
                     names.size() > 1
                         ? ""
                         : " (bfloat16 needs AVX512_BF16 or AMX, and an OOD_SIMD not below "
                           "AVX3; float32 stands in for it)");
}

double gib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

void run() {
  print(
      fmt::format("version: {}\n"
                  "simd: {} (this machine has {}; OOD_SIMD=<target> forces one)\n"
                  "products: {}\n"
                  "precision: {}\n"
                  "threads: {}\n"
                  "hdf5: {}\n"
                  "cuda: {}\n",
                  OOD_VERSION, kernels::simd_target(), fmt::join(kernels::simd_targets(), ", "),
                  kernels::matmul_backend(), precisions(), thread_count({}), hdf5_version(),
                  cuda::description()));
  for (const DeviceInfo& info : cuda::devices())
    print(fmt::format("{}: {}, compute capability {}.{}, {:.1f} GiB of memory, {:.1f} free\n",
                      info.device.name(), info.name, info.compute_capability / 10,
                      info.compute_capability % 10, gib(info.memory), gib(info.free)));
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  app.add_subcommand("info", "Show version, instruction set, threads, libraries and GPUs")
      ->callback([&action] {
        action = [] {
          run();
          return kDone;
        };
      });
}

}  // namespace ood::cli
