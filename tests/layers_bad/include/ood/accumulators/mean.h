#pragma once
#include <ood/detector.h>

#include "ood/reduce.h"
