"""ConjNorm, from the formulas of the paper and, where asked for, of its published code.

Peng et al., ICLR 2024, arXiv:2402.17888. The class means are those of the raw train features; then
features and means are scaled to unit l_p norm, x / (|x|_p + 1e-10). With q = p / (p - 1) and
phi = |.|_q^2 / 2, the conjugate of |.|_p^2 / 2, its Bregman divergence is

    d(z, mu) = phi(z) - phi(mu) - <z - mu, grad phi(mu)>
             = |z|_q^2 / 2 + |mu|_q^2 / 2 - <z, grad phi(mu)>      as <mu, grad phi(mu)> = |mu|_q^2

    S(z)     = logsumexp_k (log pi_k - d(z, mu_k) / t - log Phi_k)

    log pi_k    -log C (uniform), log n_k / n of the train rows (empirical), or as given
    log Phi_k   logsumexp_i (-d(z_i, mu_k) / t) over all train rows (pooled), or the same over the
                train rows of class k (per_class), or 0 (none), or the logarithm of the integral of
                exp(-d(z, mu_k) / t) over all z (importance), which a sampler estimates. Here it
                stands for p = 2 alone, where d = |z - mu|_2^2 / 2: log Phi_k = D/2 log(2 pi t),
                and where Gaussian samples of variance t have weights that are all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import logsumexp

from feature_files import Array, FeatureFile, class_means
from tolerances import Json, Result, by_row, dot_loss, one_digit_up


def lp_norm(x: Array, p: float) -> float:
    """(sum_i |x_i|^p)^(1/p), with the largest entry factored out."""
    largest = float(np.max(np.abs(x)))
    if largest == 0.0:
        return 0.0
    return largest * math.fsum((np.abs(x) / largest)**p)**(1.0 / p)


def gradient_of_paper(means: Array, q: float) -> Array:
    """Gradient of phi = |.|_q^2 / 2:  sign(mu_i) |mu_i|^(q-1) / |mu|_q^(q-2), and 0 where mu_i = 0.

    Written as |mu|_q sign(mu_i) (|mu_i| / |mu|_q)^(q-1), which is the same.
    """
    gradients = np.zeros_like(means)
    for k, mean in enumerate(means):
        length = lp_norm(mean, q)
        for i, x in enumerate(mean):
            if x != 0.0:
                gradients[k, i] = math.copysign(length * (abs(x) / length)**(q - 1.0), x)
    return gradients


def gradient_of_published_code(means: Array, q: float) -> Array:
    """The same with the norm of feature i over the classes, (sum_k |mu_ki|^q)^(1/q), for |mu|_q."""
    return gradient_of_paper(means.T, q).T


GRADIENTS: dict[str, Callable[[Array, float], Array]] = {
    "paper": gradient_of_paper, "published_code": gradient_of_published_code}


def log_prior_of(file: FeatureFile, class_prior: str, priors: Sequence[float]) -> Array:
    if class_prior == "uniform":
        return np.full(file.classes, -math.log(file.classes))
    if class_prior == "empirical":
        return np.log(np.bincount(file.train_labels) / len(file.train_labels))
    if class_prior == "given":
        assert len(priors) == file.classes and math.fsum(priors) == 1.0
        return np.log(priors)
    raise ValueError(class_prior)


class Estimate:
    """log Phi_k = logsumexp of exponents, how good it is, and what float32 exponents cost it."""

    def __init__(self, exponents: Array, losses: Array) -> None:
        n = len(exponents)
        self.log_phi = float(logsumexp(exponents))
        # With weights w_i: (sum w)^2 / sum w^2, and the error of log mean w as the delta method has
        # it, sqrt(Var(w) / n) / mean(w) = sqrt((n sum w^2 / (sum w)^2 - 1) / (n - 1)).
        w = np.exp(exponents - np.max(exponents))
        self.effective_samples = math.fsum(w)**2 / math.fsum(w**2)
        excess = n / self.effective_samples - 1.0
        self.standard_error = math.sqrt(max(excess, 0.0) / (n - 1)) if n > 1 else math.nan

        # Exponents that are off by losses_i move log sum w by sum a_i losses_i, a_i = w_i / sum w,
        # and log sum w^2 by 2 sum b_i losses_i, b_i = w_i^2 / sum w^2. Of the number of samples the
        # first order may vanish (all weights the same): the second is losses^2. The two sums, one
        # of them squared, are worth three float32 sums.
        a, b = w / math.fsum(w), w**2 / math.fsum(w**2)
        relative = (2.0 * math.fsum(np.abs(a - b) * losses) + float(np.max(losses))**2
                    + 3.0 * dot_loss(n))
        self.effective_samples_loss = relative * self.effective_samples
        low, high = (math.sqrt(max(excess + sign * relative * (excess + 1.0), 0.0) / max(n - 1, 1))
                     for sign in (-1.0, 1.0))
        self.standard_error_loss = max(high - self.standard_error, self.standard_error - low)


def conjnorm(file: FeatureFile, p: float = 2.5, temperature: float = 0.08,
             gradient: str = "paper", partition: str = "pooled", class_prior: str = "uniform",
             priors: Sequence[float] = (), proposal: str = "auto", samples: int = 1024,
             antithetic: bool = False, seed: int = 0) -> Result:
    q = p / (p - 1.0)
    t = temperature
    dim = file.train_features.shape[1]

    def scaled(x: Array) -> Array:
        return x / (lp_norm(x, p) + 1e-10)

    means = np.array([scaled(mean) for mean in class_means(file)])
    gradients = GRADIENTS[gradient](means, q)
    mean_norms = [lp_norm(mean, q) for mean in means]

    def divergences(z: Array) -> Array:
        """d(z, mu_k) for all k, z scaled."""
        z_norm = lp_norm(z, q)
        return np.array([0.5 * z_norm**2 + 0.5 * mean_norms[k]**2
                         - math.fsum(z * gradients[k]) for k in range(file.classes)])

    train = [scaled(z) for z in file.train_features]
    train_divergences = np.array([divergences(z) for z in train])
    if gradient == "paper":  # a Bregman divergence is not negative, and 0 on the diagonal
        assert np.min(train_divergences) > 0.0
        for k, mean in enumerate(means):
            assert abs(divergences(mean)[k]) < 1e-12

    # Loss. By Hoelder's inequality sum_i |z_i g_i| <= |z|_q |g|_p, so the float32 inner product
    # loses dot_loss |z|_q |g|_p; the same relative loss is granted to the other two terms. (With
    # the gradient of the paper |g|_p = |mu|_q, and it is dot_loss (|z|_q + |mu|_q)^2 / 2.) That is
    # divided by t. logsumexp passes on no more than the largest loss of its entries, so log Phi_k
    # adds the loss of a train row. For p = 2.5 and D = 37 (norms up to about 1.9) this is about
    # 8e-6 / t, for p <= 2 (norms up to 1) about 2.4e-6 / t. Tables of d / t or log Phi kept in
    # float32 cost U of their size more: rtol = 1e-6.
    longest = max(mean_norms)
    steepest = max(lp_norm(g, p) for g in gradients)

    def exponent_loss(z_norm: float) -> float:
        return dot_loss(dim) * (0.5 * z_norm**2 + 0.5 * longest**2 + z_norm * steepest) / t

    class_rows = np.bincount(file.train_labels, minlength=file.classes)
    state: Json = {"class_rows": class_rows.tolist()}
    state_atol: Json = {}
    if partition in ("pooled", "per_class"):
        losses = np.array([exponent_loss(lp_norm(z, q)) for z in train])
        estimates: list[Estimate] = []
        for k in range(file.classes):
            rows = file.train_labels == k if partition == "per_class" else slice(None)
            estimates.append(Estimate(-train_divergences[rows, k] / t, losses[rows]))
        phi_loss = float(np.max(losses))
        log_phi = np.array([e.log_phi for e in estimates])
        for name in ("standard_error", "effective_samples"):
            state[name] = [getattr(e, name) for e in estimates]
            state_atol[name] = one_digit_up(max(getattr(e, f"{name}_loss") for e in estimates))
    elif partition == "importance":
        assert p == 2.0 and proposal == "gaussian"
        # The longest sample: |z - mu|_2 / sqrt(t) has about sqrt(D) + sqrt(2 log M) at most.
        reach = math.sqrt(dim) + math.sqrt(2.0 * math.log(samples))
        phi_loss = exponent_loss(longest + math.sqrt(t) * reach)
        log_phi = np.full(file.classes, 0.5 * dim * math.log(2.0 * math.pi * t))
        constant = Estimate(np.zeros(samples), np.full(samples, phi_loss))
        for name in ("standard_error", "effective_samples"):
            state[name] = [getattr(constant, name)] * file.classes
            state_atol[name] = one_digit_up(getattr(constant, f"{name}_loss"))
    elif partition == "none":
        phi_loss = 0.0
        log_phi = np.zeros(file.classes)
        state |= {"standard_error": [0.0] * file.classes, "effective_samples": [0.0] * file.classes}
    else:
        raise ValueError(partition)
    state["log_partition"] = log_phi.tolist()
    state_atol["log_partition"] = one_digit_up(phi_loss)

    log_prior = log_prior_of(file, class_prior, priors)

    def score(z: Array) -> float:
        return float(logsumexp(log_prior - divergences(scaled(z)) / t - log_phi))

    return Result(
        by_row(file.features, score), rtol=1e-6, atol=1e-6,
        bound=by_row(file.features, lambda z: exponent_loss(lp_norm(scaled(z), q)) + phi_loss),
        state=state, state_atol=state_atol)
