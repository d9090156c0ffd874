#pragma once
// Comments may say anything: std::cout, abort(), #include "ood/registry.h"
#include <vector>

#include "ood/batch.h"
