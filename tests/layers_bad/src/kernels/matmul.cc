#include <dnnl.hpp>

#include "ood/detector.h"
