/// All detectors, and the one list of them: the command, the bindings, saved files, the
/// documentation table, the contract tests and the benchmarks are made from it.
#pragma once

#include "ood/detectors/adascale.h"
#include "ood/detectors/ash.h"
#include "ood/detectors/cadref.h"
#include "ood/detectors/caref.h"
#include "ood/detectors/conjnorm.h"
#include "ood/detectors/cop.h"
#include "ood/detectors/copy_variance.h"
#include "ood/detectors/corp.h"
#include "ood/detectors/cosine_variance.h"
#include "ood/detectors/crossmax.h"
#include "ood/detectors/dice.h"
#include "ood/detectors/doctor.h"
#include "ood/detectors/energy.h"
#include "ood/detectors/entropy.h"
#include "ood/detectors/expected_entropy.h"
#include "ood/detectors/fdbd.h"
#include "ood/detectors/fusion.h"
#include "ood/detectors/gaussian_density.h"
#include "ood/detectors/gen.h"
#include "ood/detectors/gradnorm.h"
#include "ood/detectors/kl_matching.h"
#include "ood/detectors/kl_uniform.h"
#include "ood/detectors/knn.h"
#include "ood/detectors/layers.h"
#include "ood/detectors/linear_probe.h"
#include "ood/detectors/lts.h"
#include "ood/detectors/mahalanobis.h"
#include "ood/detectors/max_cosine.h"
#include "ood/detectors/max_logit.h"
#include "ood/detectors/mean_logit_energy.h"
#include "ood/detectors/mean_msp.h"
#include "ood/detectors/min_cosine.h"
#include "ood/detectors/msp.h"
#include "ood/detectors/mutual_information.h"
#include "ood/detectors/nac.h"
#include "ood/detectors/nci.h"
#include "ood/detectors/neco.h"
#include "ood/detectors/nnguide.h"
#include "ood/detectors/openmax.h"
#include "ood/detectors/optfs.h"
#include "ood/detectors/ora.h"
#include "ood/detectors/pnml.h"
#include "ood/detectors/predictive_entropy.h"
#include "ood/detectors/react.h"
#include "ood/detectors/relation.h"
#include "ood/detectors/relative_mahalanobis.h"
#include "ood/detectors/residual.h"
#include "ood/detectors/scale.h"
#include "ood/detectors/she.h"
#include "ood/detectors/ssd.h"
#include "ood/detectors/temperature_scaling.h"
#include "ood/detectors/variation_ratio.h"
#include "ood/detectors/vim.h"
#include "ood/detectors/vra.h"
#include "ood/detectors/wdiscood.h"
#include "ood/detectors/weiper.h"
#include "ood/detectors/wepe.h"

namespace ood {

template <class... Ts>
struct TypeList {};

/// In the order of the documentation: logits, then features, then what needs the head.
// clang-format off
using Detectors = TypeList<
    Msp, TemperatureScaling, MaxLogit, Energy, Entropy, Gen, Doctor, KlUniform, KlMatching, OpenMax, GradNorm,
    Mahalanobis, RelativeMahalanobis, Ssd, GaussianDensity, MaxCosine, Wdiscood,
    Knn, NnGuide, Relation, She,
    ConjNorm,
    Neco, Cop, Corp, Pnml, Residual, Vim,
    ReAct, Vra, OptFs, Dice, Ash, Scale, Lts, AdaScale,
    Fdbd, Nci, Caref, Cadref, Ora, Nac, Weiper,
    MeanMsp, MeanLogitEnergy, PredictiveEntropy, ExpectedEntropy, MutualInformation, CopyVariance, VariationRatio, Wepe, MinCosine, CosineVariance, CrossMax,
    Layers, Fusion, LinearProbe
    >;
// clang-format on

/// Calls visit.template operator()<T>() for each T of the list.
template <class Visit, class... Ts>
void for_each_type(TypeList<Ts...>, const Visit& visit) {
  (visit.template operator()<Ts>(), ...);
}

}  // namespace ood
