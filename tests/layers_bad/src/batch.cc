#include "ood/batch.h"

#include <H5public.h>
#include <cuda_runtime_api.h>
#include <omp.h>
#include <dnnl.hpp>

#include <iostream>

#include "ood/exec.h"
#include "ood/kernels.h"

void fail(const char* why) {
#pragma omp parallel
  std::cout << why;
  std::cerr << why;
  snprintf(nullptr, 0, "%s", why);
  printf("%s", why);
  fmt::print("{}", why);
  if (why[0] == 'a') abort();
  std::exit(1);
}
