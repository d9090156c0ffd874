/// All detectors, and the one list of them: the command, the bindings, saved files, the
/// documentation table, the contract tests and the benchmarks are made from it.
#pragma once

#include "ood/detectors/conjnorm.h"
#include "ood/detectors/copy_variance.h"
#include "ood/detectors/cosine_variance.h"
#include "ood/detectors/crossmax.h"
#include "ood/detectors/doctor.h"
#include "ood/detectors/energy.h"
#include "ood/detectors/entropy.h"
#include "ood/detectors/expected_entropy.h"
#include "ood/detectors/gaussian_density.h"
#include "ood/detectors/gen.h"
#include "ood/detectors/kl_matching.h"
#include "ood/detectors/kl_uniform.h"
#include "ood/detectors/knn.h"
#include "ood/detectors/mahalanobis.h"
#include "ood/detectors/max_cosine.h"
#include "ood/detectors/max_logit.h"
#include "ood/detectors/mean_logit_energy.h"
#include "ood/detectors/mean_msp.h"
#include "ood/detectors/min_cosine.h"
#include "ood/detectors/msp.h"
#include "ood/detectors/mutual_information.h"
#include "ood/detectors/openmax.h"
#include "ood/detectors/predictive_entropy.h"
#include "ood/detectors/relative_mahalanobis.h"
#include "ood/detectors/residual.h"
#include "ood/detectors/ssd.h"
#include "ood/detectors/temperature_scaling.h"
#include "ood/detectors/variation_ratio.h"
#include "ood/detectors/vim.h"
#include "ood/detectors/wepe.h"

namespace ood {

template <class... Ts>
struct TypeList {};

/// In the order of the documentation: logits, then features, then what needs the head, then several
/// copies of an output.
// A line for each family.
// clang-format off
using Detectors =
    TypeList<Msp, MaxLogit, Energy, Entropy, Gen, Doctor, KlUniform,
             TemperatureScaling, KlMatching, OpenMax,
             Mahalanobis, RelativeMahalanobis, Ssd, GaussianDensity, MaxCosine, Knn, ConjNorm,
             Residual, Vim,
             MeanMsp, MeanLogitEnergy, PredictiveEntropy, ExpectedEntropy, MutualInformation,
             CopyVariance, VariationRatio, Wepe, MinCosine, CosineVariance, CrossMax>;
// clang-format on

/// Calls visit.template operator()<T>() for each T of the list.
template <class Visit, class... Ts>
void for_each_type(TypeList<Ts...>, const Visit& visit) {
  (visit.template operator()<Ts>(), ...);
}

}  // namespace ood
