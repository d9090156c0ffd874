/// All detectors, and the one list of them: the command, the bindings, saved files, the
/// documentation table, the contract tests and the benchmarks are made from it.
#pragma once

#include "ood/detectors/conjnorm.h"
#include "ood/detectors/cop.h"
#include "ood/detectors/corp.h"
#include "ood/detectors/doctor.h"
#include "ood/detectors/energy.h"
#include "ood/detectors/entropy.h"
#include "ood/detectors/gaussian_density.h"
#include "ood/detectors/gen.h"
#include "ood/detectors/kl_uniform.h"
#include "ood/detectors/knn.h"
#include "ood/detectors/mahalanobis.h"
#include "ood/detectors/max_cosine.h"
#include "ood/detectors/max_logit.h"
#include "ood/detectors/msp.h"
#include "ood/detectors/nac.h"
#include "ood/detectors/neco.h"
#include "ood/detectors/relative_mahalanobis.h"
#include "ood/detectors/residual.h"
#include "ood/detectors/ssd.h"
#include "ood/detectors/vim.h"
#include "ood/detectors/wdiscood.h"
#include "ood/detectors/weiper.h"

namespace ood {

template <class... Ts>
struct TypeList {};

/// In the order of the documentation: logits, then features, then what needs the head.
// clang-format off: a line for each family
using Detectors = TypeList<Msp, MaxLogit, Energy, Entropy, Gen, Doctor, KlUniform, Mahalanobis,
                           RelativeMahalanobis, Ssd, GaussianDensity, MaxCosine, Knn, ConjNorm,
                           Residual, Vim, Neco, Cop, Corp, Wdiscood, Weiper, Nac>;
// clang-format on

/// Calls visit.template operator()<T>() for each T of the list.
template <class Visit, class... Ts>
void for_each_type(TypeList<Ts...>, const Visit& visit) {
  (visit.template operator()<Ts>(), ...);
}

}  // namespace ood
