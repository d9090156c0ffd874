#pragma once

#include "ood/matrix.h"

namespace ood {

/// |w_a - w_b|_2 of every two rows of the weights [C, D] of a head: [C, C], C^2 floats (C = 1000: 4
/// MB). z is (f_a - f_b) / |w_a - w_b| from where classes a and b are equally likely. The diagonal
/// holds 1, by which a margin of 0 stays 0. In float64 by differences, O(C^2 D).
/// Throws std::domain_error for a head of fewer than two classes, and if two rows are equal: such
/// classes have no boundary.
Matrix weight_distances(const Matrix& weight);

}  // namespace ood
