#pragma once
#include "ood/accumulators/mean.h"
#include "ood/stream.h"
