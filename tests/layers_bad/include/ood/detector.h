#pragma once
#include "ood/accumulators/mean.h"
#include "ood/detectors/knn.h"
