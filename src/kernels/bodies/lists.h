/// All bodies: OOD_ALL_BODIES(X) is X(body) for each.
#pragma once

#include "kernels/bodies/copies.h"
#include "kernels/bodies/elements.h"
#include "kernels/bodies/epilogues.h"
#include "kernels/bodies/margins.h"
#include "kernels/bodies/nearest.h"
#include "kernels/bodies/norms.h"
#include "kernels/bodies/rows.h"
#include "kernels/bodies/shaping.h"

#define OOD_ALL_BODIES(X) \
  OOD_ELEMENT_BODIES(X)   \
  OOD_ROW_BODIES(X)       \
  OOD_NORM_BODIES(X)      \
  OOD_EPILOGUE_BODIES(X)  \
  OOD_SHAPING_BODIES(X)   \
  OOD_MARGIN_BODIES(X)    \
  OOD_COPY_BODIES(X)      \
  OOD_NEAREST_BODIES(X)
