#pragma once
#include <hdf5.h>

#include "ood/dataset.h"
#include "ood/detector.h"
#include "ood/detectors.h"
#include "ood/detectors/vim.h"
#include "ood/evaluate.h"
#include "ood/metrics.h"
#include "ood/registry.h"
#include "ood/report.h"
