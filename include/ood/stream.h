/// One checked pass over a source: what every fit and every evaluation reads through.
#pragma once

#include "ood/batch.h"
#include "ood/exec.h"

namespace ood {

/// What a pass over the source can give: what it has, and logits where features and head make them.
Inputs available(const SourceInfo& info);

/// One pass over `source` in row order. visit gets consecutive batches with the wanted fields:
/// logits that are not stored are computed as features * weight^T + bias.
///
/// errors std::invalid_argument: a wanted field that the source cannot give; NaN or infinity, a
/// label
///        out of [0, C): names source, field, row and column; a source that yields another number
///        of rows than it declares. What visit throws passes through.
void stream(BatchSource& source, const Inputs& wanted, const Exec& exec,
            const std::function<void(const Batch&)>& visit);

}  // namespace ood
