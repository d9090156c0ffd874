#include <benchmark/benchmark.h>

#include "ood/kernels.h"
#include "ood/version.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("ood", OOD_VERSION);
  benchmark::AddCustomContext("simd target", ood::kernels::simd_target());
  benchmark::AddCustomContext("matmul backend", ood::kernels::matmul_backend());
  benchmark::AddCustomContext("threads", "1");
  benchmark::RunSpecifiedBenchmarks();
}
