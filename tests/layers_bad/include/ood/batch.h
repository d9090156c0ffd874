#pragma once
#include <../src/errors.h>
#include "errors.h"

#include "ood/matrix.h"
