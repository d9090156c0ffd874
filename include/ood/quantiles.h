/// Percentiles of features, exactly, without keeping rows.
#pragma once

#include <span>
#include <vector>

#include "ood/batch.h"
#include "ood/exec.h"

namespace ood {

/// Which entries are ranked together: those of each column, or all.
enum class QuantileScope { dimension, all };

/// Percentiles of the features of a source, [percentiles, D] or [percentiles, 1]. Of n entries
/// x_(0) <= ... <= x_(n-1), percentile p in [0, 100] is what numpy.percentile gives of them in
/// float64:
///
///   x_(k) + (h - k) (x_(k+1) - x_(k)),   h = (n - 1) p / 100,   k = floor(h)
///
/// x_(k) and x_(k+1) are found digit by digit of their bits: 4 passes over the rows with digits of
/// 8 bits for columns, 3 passes with 11 bits for all entries. Counts are whole numbers: the same
/// bits for any threads and batches. cost O(n D P) for P percentiles; memory, whatever n is, up to
/// 2 P D 2^8 or 2 P 2^11 counts of 8 bytes for each thread and one more.
/// Throws std::domain_error without rows.
MatrixD feature_percentiles(BatchSource& source, std::span<const double> percentiles,
                            QuantileScope scope, const Exec& exec = {});

/// The same of numbers at hand, one or more.
double percentile(std::vector<double> values, double percent);

}  // namespace ood
