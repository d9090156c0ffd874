"""Scores made of the logits alone: msp, max_logit, energy, entropy, gen, doctor, kl_uniform."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from feature_files import Array, FeatureFile
from tolerances import U, Result, by_row


def log_softmax(f: Array) -> Array:
    """log p, accurate also where p is close to 1.

    With r = sum_{c != top} exp(f_c - f_top):  log p_top = -log(1 + r) = -log1p(r), and
    log p_c = (f_c - f_top) - log1p(r). (f_top - logsumexp(f) is the same number, but its error is
    absolute, eps |f_top|, and it is 0 as soon as r < eps.)
    """
    top = int(np.argmax(f))
    r = math.fsum(math.exp(f[c] - f[top]) for c in range(len(f)) if c != top)
    return np.array([(f[c] - f[top]) - math.log1p(r) for c in range(len(f))])


# Loss of the softmax scores. exp(f_c - f_top) with the difference rounded to float32 is off by
# U |f_c - f_top| relative, and underflows to zero where the difference is below -104, so the loss
# is at most 104 U = 6.2e-6 relative: rtol = 1e-5. This holds for the tiny scores of confident
# rows as well, because float32 is relative: a log-probability of -1e-12 is no less accurate than
# one of -1, if 1 + r is never formed (log1p) and nothing of the size of f is subtracted. It is the
# order of such rows that makes msp and gen usable on confident models, so it is checked: atol is
# only 1e-12, the loss of f_top - logsumexp(f) in float64 (2^-53 times logits up to a few thousand).
# In float32 that difference would lose U |f_top| (6e-8 .. 1e-4) and tie all rows with r < 6e-8.
SOFTMAX_RTOL = 1e-5
SOFTMAX_ATOL = 1e-12


def msp(file: FeatureFile, temperature: float = 1.0) -> Result:
    """log max_c p_c, p = softmax(f / T).

    Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136 (there: max_c p_c, and T = 1).
    """
    t = temperature
    return Result(by_row(file.logits, lambda f: float(np.max(log_softmax(f / t))) + 0.0),
                  rtol=SOFTMAX_RTOL, atol=SOFTMAX_ATOL)


def max_logit(file: FeatureFile) -> Result:
    """max_c f_c. Hendrycks et al., ICML 2022, arXiv:1911.11132.

    A float32 number of the file: exact (1e-8 is below the rounding of float32).
    """
    return Result(by_row(file.logits, lambda f: float(np.max(f))), rtol=1e-8)


def energy(file: FeatureFile, temperature: float = 1.0) -> Result:
    """T logsumexp(f / T). Liu et al., NeurIPS 2020, arXiv:2010.03759.

    = f_top + T log sum exp((f_c - f_top) / T). Each part loses a few U of itself, and the parts may
    cancel: bound 8 U (|f_top| + T log C).
    """
    t = temperature
    scores = by_row(file.logits, lambda f: float(t * logsumexp(f / t)))
    bound = by_row(file.logits,
                   lambda f: 8.0 * U * (abs(float(np.max(f))) + t * math.log(file.classes)))
    return Result(scores, rtol=1e-5, bound=bound, atol=1e-6)


def entropy(file: FeatureFile) -> Result:
    """Negative Shannon entropy, sum_c p_c log p_c, with 0 log 0 = 0.

    All terms have one sign; the loss is that of msp, once more for the factor log p_c.
    """
    def score(f: Array) -> float:
        log_p = log_softmax(f)
        # p underflows to 0 while log p stays finite: their product is 0.
        return math.fsum(math.exp(x) * x for x in log_p) + 0.0

    return Result(by_row(file.logits, score), rtol=2.0 * SOFTMAX_RTOL, atol=SOFTMAX_ATOL)


def gen(file: FeatureFile, gamma: float = 0.1, top_m: int = 100) -> Result:
    """Generalised entropy, -sum over the top_m largest p of p^gamma (1 - p)^gamma.

    Liu, Lochman and Zach, CVPR 2023 (GEN). 1 - p = -expm1(log p): for p close to 1 the difference
    1 - p would lose everything, and a small gamma makes a large number of the lost part
    ((1e-16)^0.1 = 0.025). All terms have one sign; the loss is gamma times that of msp per factor.
    """
    def score(f: Array) -> float:
        largest = np.sort(log_softmax(f))[::-1][:top_m]
        return -math.fsum(math.exp(gamma * x) * (-math.expm1(x))**gamma for x in largest) + 0.0

    return Result(by_row(file.logits, score), rtol=SOFTMAX_RTOL, atol=SOFTMAX_ATOL)


def doctor(file: FeatureFile, temperature: float = 1.0) -> Result:
    """sum_c p_c^2 - 1 = -sum_c p_c (1 - p_c), p = softmax(f / T).

    Granese et al., NeurIPS 2021, arXiv:2106.02395, D_alpha: there (1 - g) / g with g = sum_c p_c^2,
    lower = more in-distribution. All terms have one sign; the loss is that of msp, once more for
    the factor 1 - p_c.
    """
    def score(f: Array) -> float:
        return -math.fsum(math.exp(x) * -math.expm1(x) for x in log_softmax(f / temperature)) + 0.0

    return Result(by_row(file.logits, score), rtol=2.0 * SOFTMAX_RTOL, atol=SOFTMAX_ATOL)


def kl_uniform(file: FeatureFile) -> Result:
    """KL(u || p) = -(1/C) sum_c log p_c - log C, u_c = 1/C.

    = (1/C) sum_c (f_top - f_c) - log p_top - log C, and each part loses a few U of itself.
    """
    def score(f: Array) -> float:
        return -math.fsum(log_softmax(f)) / len(f) - math.log(len(f))

    def loss(f: Array) -> float:
        return 8.0 * U * (float(np.max(f) - np.mean(f)) + 2.0 * math.log(len(f)))

    return Result(by_row(file.logits, score), rtol=1e-6, bound=by_row(file.logits, loss),
                  atol=1e-6)
