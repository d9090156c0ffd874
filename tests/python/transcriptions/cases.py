"""Every transcription, with the detector and the option that it is of."""

from __future__ import annotations

from transcriptions import (
    banks,
    fitted_logits,
    gaussians,
    logits,
    margins,
    shaping,
    subspaces,
)
from transcriptions.arrays import unit_rows

DEFAULTS = [
    logits.msp, logits.max_logit, logits.energy, logits.entropy, logits.gen, logits.doctor, logits.kl_uniform,
    fitted_logits.temperature_scaling, fitted_logits.kl_matching, fitted_logits.openmax,
    gaussians.mahalanobis, gaussians.relative_mahalanobis, gaussians.ssd, gaussians.gaussian_density,
    gaussians.max_cosine, gaussians.residual, gaussians.vim,
    banks.she, banks.pnml,
    subspaces.neco, subspaces.cop, subspaces.wdiscood, subspaces.weiper, subspaces.nac,
    shaping.react, shaping.vra, shaping.optfs, shaping.dice, shaping.ash, shaping.scale,
    shaping.lts,
    margins.fdbd, margins.nci, margins.caref, margins.cadref, margins.gradnorm, margins.ora,
]
OPTIONS = [
    ("mahalanobis", "preset=mahalanobis++",
     lambda data: gaussians.mahalanobis(unit_rows(data))),
    ("relative_mahalanobis", "preset=relative_mahalanobis++",
     lambda data: gaussians.relative_mahalanobis(unit_rows(data))),
    ("gaussian_density", "preset=gem", gaussians.gem),
    *((detector, f"preset={preset}", score) for detector, preset, score in fitted_logits.PRESETS),
    *subspaces.OPTIONS,
    ("react", "preset=pytorch_ood", shaping.react_at_1),
    ("vra", "preset=openood", shaping.vra_clip_all),
    ("vra", "preset=pytorch_ood", shaping.vra_clip),
    ("ash", "preset=openood", shaping.ash_b),
    ("fdbd", "normalizer=norm", lambda data: margins.fdbd(data, "norm")),
    ("nci", "preset=pytorch_ood", lambda data: margins.nci(data, 0)),
]
# (detector, what follows -p or "" for the defaults, transcription)
CASES = [*((score.__name__, "", score) for score in DEFAULTS), *OPTIONS]
# Each row against the whole bank: numpy takes long where that is large.
BANKS = [
    ("knn", "", banks.knn),
    ("knn", "preset=pytorch_ood", banks.knn_pytorch_ood),
    ("nnguide", "", banks.nnguide),
    ("nnguide", "preset=pytorch_ood", banks.nnguide_pytorch_ood),
    ("relation", "", banks.relation),
]
