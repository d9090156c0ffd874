"""Which detectors, on which file, with which options: the cases of scores.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from bank_scores import nnguide, pnml, relation, she
from conjnorm import conjnorm
from copy_scores import (
    copy_variance,
    cosine_variance,
    crossmax,
    expected_entropy,
    mean_logit_energy,
    mean_msp,
    min_cosine,
    mutual_information,
    predictive_entropy,
    variation_ratio,
    wepe,
)
from feature_files import COPIES, DEFICIENT, DEFICIENT_RANK, PERTURBED, SMALL, SPLITS, FeatureFile
from feature_scores import (
    gaussian_density,
    knn,
    mahalanobis,
    max_cosine,
    relative_mahalanobis,
    ssd,
)
from fitted_logit_scores import kl_matching, openmax, temperature_scaling
from head_scores import residual, vim
from histogram_scores import nac, weiper
from logit_scores import doctor, energy, entropy, gen, kl_uniform, max_logit, msp
from margin_scores import cadref, caref, fdbd, gradnorm, nci, ora
from shaping_scores import adascale, ash, dice, lts, optfs, react, scale, vra
from space_scores import cop, corp, neco, wdiscood
from tolerances import Json, Result, tolerances

DETECTORS: dict[str, Callable[..., Result]] = {
    "msp": msp, "max_logit": max_logit, "energy": energy, "entropy": entropy, "gen": gen,
    "doctor": doctor, "kl_uniform": kl_uniform, "mahalanobis": mahalanobis,
    "relative_mahalanobis": relative_mahalanobis, "ssd": ssd,
    "gaussian_density": gaussian_density, "max_cosine": max_cosine, "knn": knn,
    "conjnorm": conjnorm,
    "nnguide": nnguide, "she": she, "relation": relation, "pnml": pnml,
    "residual": residual, "vim": vim,
    "fdbd": fdbd, "nci": nci, "caref": caref, "cadref": cadref, "gradnorm": gradnorm, "ora": ora,
    "react": react, "vra": vra, "optfs": optfs, "dice": dice, "ash": ash, "scale": scale,
    "lts": lts, "adascale": adascale,
    "neco": neco, "cop": cop, "corp": corp, "wdiscood": wdiscood, "weiper": weiper, "nac": nac,
    "temperature_scaling": temperature_scaling, "kl_matching": kl_matching, "openmax": openmax,
    "mean_msp": mean_msp, "mean_logit_energy": mean_logit_energy,
    "predictive_entropy": predictive_entropy, "expected_entropy": expected_entropy,
    "mutual_information": mutual_information, "copy_variance": copy_variance,
    "variation_ratio": variation_ratio, "wepe": wepe, "min_cosine": min_cosine,
    "cosine_variance": cosine_variance, "crossmax": crossmax,
}

# p, t and partition of the authors' scripts.
CONJNORM_OF_AUTHORS = ((2.5, 0.08, "pooled"), (2.2, 0.05, "pooled"), (1.8, 0.005, "per_class"),
                       (1.5, 0.0005, "per_class"))
GAUSSIAN: Json = {"p": 2.0, "partition": "importance", "proposal": "gaussian"}
PRIORS = [0.25, 0.125, 0.0625, 0.0625, 0.125, 0.125, 0.25]  # of small.h5; they sum to 1 exactly

VRA: list[tuple[str, Json]] = [
    (SMALL, {}),
    (DEFICIENT, {}),
    (SMALL, {"low": 60.0, "high": 95.0, "lift": 0.6}),
    (PERTURBED, {"low": 10.0, "high": 90.0, "scope": "all", "below": "clip", "split": "id_val"}),
    (SMALL, {"low": 1.0, "high": 99.0, "below": "clip"}),
    (DEFICIENT, {"thresholds": [0.5, 1.0]}),
]
# Of subspaces and histograms: their presets with what fits these files.
SPACES: tuple[tuple[str, Json], ...] = (
    ("neco", {}),
    ("neco", {"dim": 10}),
    ("neco", {"max_logit_factor": False}),
    ("cop", {}),
    ("cop", {"variance": 0.99}),
    ("corp", {"dimension": 300}),
    ("corp", {"variance": 0.5, "gamma": 3.0, "dimension": 129, "seed": 7}),
    ("wdiscood", {}),
    ("wdiscood", {"discriminants": 2, "residual_weight": 1.0}),
    ("weiper", {}),
    ("weiper", {"delta": 2.4, "lambda1": 0.1, "lambda2": 1.0, "window1": 4, "window2": 40}),
    ("weiper", {"copies": 10, "delta": 2.0, "window1": 40, "bins": 80, "seed": 3}),
    ("nac", {}),
    ("nac", {"alpha": 50.0, "rows": 100, "seed": 5}),
    ("nac", {"saturation": 10, "alpha": 3000.0, "bins": 21, "rows": 0}),
)

# (file, detector, options); empty options are the defaults of the detector.
SCORE_CASES: list[tuple[str, str, Json]] = [
    (SMALL, "msp", {}),
    (SMALL, "msp", {"temperature": 0.5}),
    (SMALL, "msp", {"temperature": 10.0}),
    (SMALL, "max_logit", {}),
    (SMALL, "energy", {"temperature": 1.0}),
    (SMALL, "energy", {"temperature": 0.5}),
    (SMALL, "energy", {"temperature": 10.0}),
    (SMALL, "entropy", {}),
    (SMALL, "gen", {}),
    (SMALL, "gen", {"gamma": 0.5, "top_m": 3}),
    (SMALL, "gen", {"gamma": 1.0, "top_m": 1}),
    (SMALL, "doctor", {}),
    (SMALL, "doctor", {"temperature": 0.5}),
    (SMALL, "doctor", {"temperature": 10.0}),
    (SMALL, "kl_uniform", {}),
    (SMALL, "mahalanobis", {}),
    (SMALL, "mahalanobis", {"ridge": 0.01}),
    (DEFICIENT, "mahalanobis", {}),
    (SMALL, "mahalanobis", {"normalize": True}),
    (SMALL, "mahalanobis", {"normalize": True, "ridge": 0.01}),
    (DEFICIENT, "mahalanobis", {"normalize": True}),
    (SMALL, "relative_mahalanobis", {}),
    (SMALL, "relative_mahalanobis", {"ridge": 0.01}),
    (DEFICIENT, "relative_mahalanobis", {}),
    (SMALL, "relative_mahalanobis", {"normalize": True}),
    (SMALL, "relative_mahalanobis", {"normalize": True, "ridge": 0.01}),
    (DEFICIENT, "relative_mahalanobis", {"normalize": True}),
    (SMALL, "ssd", {}),
    (SMALL, "ssd", {"ridge": 0.01}),
    (DEFICIENT, "ssd", {}),
    # Classes of fewer rows than D + 1: without a ridge an error
    (SMALL, "gaussian_density", {"ridge": 0.01}),
    (SMALL, "gaussian_density", {"ridge": 0.01, "class_prior": "uniform"}),
    (DEFICIENT, "gaussian_density", {"ridge": 0.01}),
    (SMALL, "gaussian_density", {"covariance": "tied"}),
    (SMALL, "gaussian_density", {"covariance": "tied", "class_prior": "uniform"}),
    (SMALL, "gaussian_density", {"covariance": "tied", "ridge": 0.01}),
    (DEFICIENT, "gaussian_density", {"covariance": "tied"}),
    (SMALL, "max_cosine", {}),
    (DEFICIENT, "max_cosine", {}),
    (SMALL, "knn", {}),
    (SMALL, "knn", {"k": 1}),
    (SMALL, "knn", {"k": 10, "normalize": False}),
    (SMALL, "knn", {"k": 1, "normalize": False}),
    (SMALL, "knn", {"k": 10, "aggregate": "mean"}),
    (SMALL, "knn", {"k": 5, "bank_share": 0.07, "seed": 3}),
    (SMALL, "nnguide", {}),
    (SMALL, "nnguide", {"bank": "unweighted"}),
    (SMALL, "nnguide", {"k": 100}),
    (SMALL, "nnguide", {"k": 2, "bank_share": 0.01, "seed": 7}),
    (DEFICIENT, "nnguide", {}),
    *((SMALL, "she", {"metric": m}) for m in ("inner_product", "euclidean", "cosine")),
    (DEFICIENT, "she", {}),
    (SMALL, "relation", {}),
    (SMALL, "relation", {"power": 4}),
    (SMALL, "relation", {"threshold": 0.3, "bank_share": 0.25, "seed": 1}),
    (DEFICIENT, "relation", {}),
    (SMALL, "pnml", {}),
    (DEFICIENT, "pnml", {}),
    *((SMALL, "conjnorm", {"p": p, "temperature": t, "partition": partition})
      for p, t, partition in (*CONJNORM_OF_AUTHORS, (2.0, 0.1, "none"), (3.0, 0.08, "pooled"),
                              (4.0, 0.08, "pooled"), (1.2, 0.05, "per_class"),
                              (1.05, 0.001, "pooled"))),
    *((DEFICIENT, "conjnorm", {"p": p, "temperature": t, "partition": partition})
      for p, t, partition in ((2.5, 0.08, "pooled"), (3.0, 0.08, "per_class"),
                              (4.0, 0.08, "per_class"), (1.5, 0.0005, "per_class"))),
    *((SMALL, "conjnorm",
       {"p": p, "temperature": t, "gradient": "published_code", "partition": partition})
      for p, t, partition in CONJNORM_OF_AUTHORS),
    *((DEFICIENT, "conjnorm",
       {"p": p, "temperature": t, "gradient": "published_code", "partition": partition})
      for p, t, partition in ((2.5, 0.08, "pooled"), (1.5, 0.0005, "per_class"))),
    # Two temperatures, numbers of samples and seeds: at p = 2 none of these matters to the estimate
    (SMALL, "conjnorm", {**GAUSSIAN, "temperature": 0.1}),
    (SMALL, "conjnorm", {**GAUSSIAN, "temperature": 0.005, "samples": 200, "seed": 7}),
    (DEFICIENT, "conjnorm", {**GAUSSIAN, "temperature": 0.1, "antithetic": True}),
    (SMALL, "conjnorm", {"partition": "pooled", "class_prior": "empirical"}),
    (SMALL, "conjnorm", {"partition": "pooled", "class_prior": "given", "priors": PRIORS}),
    (SMALL, "conjnorm", {**GAUSSIAN, "temperature": 0.1, "class_prior": "empirical"}),
    (SMALL, "conjnorm",
     {**GAUSSIAN, "temperature": 0.1, "class_prior": "given", "priors": PRIORS}),
    *((file, detector, options) for detector in ("residual", "vim")
      for file, options in ((SMALL, {}), (SMALL, {"dim": 5}), (DEFICIENT, {}))),
    *((file, "fdbd", options) for file in (SMALL, DEFICIENT)
      for options in ({}, {"normalizer": "norm"})),
    *((file, "nci", options) for file in (SMALL, DEFICIENT)
      for options in ({}, {"alpha": 0.0}, {"alpha": 0.1})),
    (SMALL, "caref", {}),
    (DEFICIENT, "caref", {}),
    *((file, "cadref", options) for file in (SMALL, DEFICIENT)
      for options in ({}, {"confidence": "max_logit"}, {"confidence": "msp"},
                      {"confidence": "gen"})),
    *((file, "gradnorm", options) for file in (SMALL, DEFICIENT)
      for options in ({}, {"temperature": 0.5}, {"temperature": 10.0})),
    (SMALL, "ora", {}),
    (DEFICIENT, "ora", {}),
    *((file, "react", options)
      for file, options in ((SMALL, {}), (DEFICIENT, {}), (SMALL, {"percentile": 99.0}),
                            (SMALL, {"threshold": 1.0}), (PERTURBED, {"split": "id_val"}))),
    *((file, "vra", options) for file, options in VRA),
    *((file, "optfs", {}) for file in (SMALL, DEFICIENT, PERTURBED)),
    *((file, "dice", options) for file in (SMALL, DEFICIENT)
      for options in ({}, {"percentile": 70.0})),
    # small.h5 has features below 0
    *((DEFICIENT, "ash", {"variant": v, "percentile": p})
      for v in ("s", "b", "p") for p in (90.0, 65.0)),
    *((SMALL, "ash", {"variant": v, "relu": True}) for v in ("s", "b", "p")),
    (DEFICIENT, "scale", {}),
    (DEFICIENT, "scale", {"percentile": 65.0}),
    (SMALL, "scale", {"relu": True}),
    (DEFICIENT, "lts", {}),
    (DEFICIENT, "lts", {"percentile": 85.0}),
    (SMALL, "lts", {"relu": True}),
    (PERTURBED, "adascale", {}),
    (PERTURBED, "adascale", {"variant": "l"}),
    (PERTURBED, "adascale", {"percentile_min": 80.0, "percentile_max": 85.0}),
    (PERTURBED, "adascale", {"copy": 1, "k1": 20.0, "k2": 10.0, "shift_weight": 2.5}),
    *((file, detector, options) for file in (SMALL, DEFICIENT) for detector, options in SPACES),
    # fitted on id_val of copies.h5, on train of small.h5, which has none
    (COPIES, "temperature_scaling", {}),
    (SMALL, "temperature_scaling", {}),
    (COPIES, "kl_matching", {}),
    (SMALL, "kl_matching", {}),
    (SMALL, "kl_matching", {"match": "predicted"}),
    (SMALL, "kl_matching", {"templates": "label"}),
    (SMALL, "kl_matching", {"preset": "pytorch_ood"}),
    (COPIES, "openmax", {}),
    (SMALL, "openmax", {"tail": 10, "alpha": 4}),
    (COPIES, "openmax", {"preset": "openood"}),
    (COPIES, "openmax", {"preset": "pytorch_ood"}),
    (COPIES, "mean_msp", {}),
    (COPIES, "mean_msp", {"mean": "logits"}),
    *((COPIES, detector, {}) for detector in (
        "mean_logit_energy", "predictive_entropy", "expected_entropy", "mutual_information",
        "copy_variance", "variation_ratio", "wepe", "min_cosine", "cosine_variance", "crossmax")),
    (COPIES, "crossmax", {"k": 5, "statistic": "max_logit"}),
    (COPIES, "crossmax", {"members": "layers"}),
    (COPIES, "crossmax", {"members": "layers", "k": 2, "statistic": "msp"}),
]


# What the presets of a case stand for.
PRESETS: dict[tuple[str, str], Json] = {
    ("kl_matching", "pytorch_ood"): {"templates": "label", "match": "predicted"},
    ("openmax", "openood"): {"alpha": 3},
    ("openmax", "pytorch_ood"): {"tail": 25, "rows": "labelled"},
}


def case_name(file: str, detector: str, options: Json) -> str:
    parts = [detector, Path(file).stem]
    parts += [f"{k}={v:g}" if isinstance(v, float) else f"{k}={json.dumps(v).strip(chr(34))}"
              for k, v in options.items()]
    return " ".join(parts if options else [*parts, "defaults"])


def make_scores(folder: Path) -> Json:
    """Scores of the feature files in `folder`."""
    files = {name: FeatureFile.read(folder / name)
             for name in (SMALL, DEFICIENT, PERTURBED, COPIES)}
    cases: list[Json] = []
    for file, detector, options in SCORE_CASES:
        meant = (PRESETS[detector, options["preset"]] if "preset" in options else options)
        result = DETECTORS[detector](files[file], **meant)
        case: Json = {
            "name": case_name(file, detector, options), "file": file, "detector": detector,
            "options": options, **tolerances(result),
            # JSON has no infinity: "inf" and "-inf" stand for it
            "scores": {split: [x if math.isfinite(x) else str(x)
                               for x in result.scores[split].tolist()] for split in SPLITS},
        }
        if result.state is not None:
            if file == DEFICIENT and detector.endswith("mahalanobis"):
                assert result.state["rank"] == DEFICIENT_RANK
            case["state"] = result.state
            if result.state_atol is not None:
                case["state_atol"] = result.state_atol
        cases.append(case)
    return {"cases": cases}
