#include "ood/intervals.h"

#include <doctest/doctest.h>
