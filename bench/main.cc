#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <hwy/highway.h>

#include <Eigen/Core>

#include "ood/dataset.h"
#include "ood/exec.h"
#include "ood/kernels.h"
#include "ood/version.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("ood", OOD_VERSION);
  benchmark::AddCustomContext("simd target", ood::kernels::simd_target());
  benchmark::AddCustomContext("matmul backend", ood::kernels::matmul_backend());
  benchmark::AddCustomContext(
      "libraries", fmt::format("Highway {}.{}.{}, HDF5 {}, Eigen {}.{}.{}", HWY_MAJOR, HWY_MINOR,
                               HWY_PATCH, ood::hdf5_version(), EIGEN_WORLD_VERSION,
                               EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION));
  benchmark::AddCustomContext(
      "threads", fmt::format("1; {} in _vs_, threads and limits", ood::thread_count({})));
  benchmark::RunSpecifiedBenchmarks();
}
