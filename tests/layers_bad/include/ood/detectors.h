#pragma once
#include "ood/detectors/knn.h"
#include "ood/registry.h"
