/// Partition functions of Bregman densities by importance sampling.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "ood/exec.h"
#include "ood/matrix.h"

namespace ood {

/// The density r that samples for class k are drawn from, with t the temperature and D dimensions.
enum class Proposal {
  automatic,  ///< the one of those below with the larger effective sample size, by a pilot run
  gaussian,   ///< N(mu_k, t I)
  student_t,  ///< multivariate Student t at mu_k with scale matrix t I
  matched     ///< exp(-|z - mu_k|_q^2 / 2t) / Z: the tails of the density itself, Z in closed form
};
inline constexpr std::array<std::string_view, 4> kProposals = {"auto", "gaussian", "student_t",
                                                               "matched"};

struct ImportanceOptions {
  Proposal proposal = Proposal::automatic;
  double degrees_of_freedom = 5;  ///< of student_t, 1 or more
  Index samples = 1024;           ///< M, 2 or more
  bool antithetic = false;  ///< draw every second sample as the mirror image of the one before
  std::uint64_t seed = 0;
};

/// Throws std::invalid_argument if there are fewer than 2 samples, or an odd number of antithetic
/// ones.
void require_valid(const ImportanceOptions& options);

/// The densities exp(-d_k(z) / t) / Phi_k, d_k(z) = |z|_q^2 / 2 + half_squares_k - <z, g_k>.
struct BregmanDensities {
  const MatrixD& centers;       ///< mu_k, [C, D]: where samples are drawn around
  const Matrix& gradients;      ///< g_k, [C, D]
  const VectorD& half_squares;  ///< [C]
  double q;                     ///< of the norm, above 1
  double temperature;           ///< t
};

struct PartitionEstimate {
  VectorD log_partition;                   ///< log Phi_k, [C]
  VectorD standard_error;                  ///< of log Phi_k, [C]
  VectorD effective_samples;               ///< (sum w)^2 / sum w^2, [C], 1 to M
  Proposal proposal = Proposal::gaussian;  ///< the one that was used
};

/// Phi_k = (1/M) sum_m w_km, w_km = exp(-d_k(z_km) / t) / r(z_km), z_km = mu_k + sqrt(t) e_m with
/// e_m drawn from the proposal at 0 with t = 1: an unbiased estimate of the integral of
/// exp(-d_k(z) / t) over R^D. All classes share the draws e_m, so that differences between classes
/// are estimated better than each Phi_k.
///
/// The standard error of log Phi_k is sqrt((M sum w^2 / (sum w)^2 - 1) / (M - 1)), over means of
/// pairs where samples are antithetic. `automatic` compares the effective sample sizes that the
/// proposals would have, in the class where each is smallest, on draws of all three: a proposal's
/// own draws do not tell of the weights that they miss. The estimate is made of other draws, and so
/// stays unbiased.
///
/// cost   O(M D C) for the norms |z_km|_q and the product <e_m, g_k>; memory O(16 (D + C)) for each
///        thread. The same bits for any number of threads.
/// error  exponents are float32: about 1e-6 |z|_q^2 / t on each log w
/// source Peng et al., ICLR 2024, arXiv:2402.17888: the unbiased estimator, with a proposal that
///        the paper leaves open. matched is ours: e = R y / |y|_q with y_i of density
///        exp(-|y|^q) and R^2 chi-squared with D degrees of freedom has density
///        exp(-|e|_q^2 / 2) / Z, Z = (2 Gamma(1 + 1/q))^D / Gamma(1 + D/q) 2^(D/2) Gamma(1 + D/2).
///        At p = 2 it is the Gaussian, and the weights of both are constant.
PartitionEstimate importance_partition(const BregmanDensities& densities,
                                       const ImportanceOptions& options, const Exec& exec = {});

}  // namespace ood
