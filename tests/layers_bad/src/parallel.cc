#include <omp.h>
#pragma omp parallel
