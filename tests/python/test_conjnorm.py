"""ConjNorm on real features: the settings of its authors, and float64 row by row.

The digits are part of the project; tests on the features of CIFAR networks are skipped where those
are not there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from conftest import SOURCE

Array = NDArray[np.float64]

DIGITS = "digits.h5"
DENSENET = "densenet_bc100_cifar10.h5"
RESNET = "resnet56_cifar10.h5"


class Setting(NamedTuple):
    p: float
    temperature: float
    partition: str
    gradient: str = "paper"
    class_prior: str = "uniform"


AUTHORS = [Setting(2.5, 0.08, "pooled"), Setting(2.2, 0.05, "pooled"),
           Setting(1.8, 0.005, "per_class"), Setting(1.5, 0.0005, "per_class")]
PUBLISHED = [setting._replace(gradient="published_code") for setting in AUTHORS]
OTHERS = [Setting(1.2, 0.05, "per_class"), Setting(3.0, 0.08, "pooled"),
          AUTHORS[0]._replace(class_prior="empirical")]

# Mean AUROC (far, near) in % on the DenseNet file, of a float64 transcription made elsewhere
TABLE = [*zip(AUTHORS, [(97.29, 91.22), (97.21, 90.91), (96.34, 89.65), (94.02, 85.46)]),
         *zip(PUBLISHED, [(95.66, 90.63), (97.20, 91.09), (96.42, 90.21), (95.38, 89.84)])]


def name_of(setting: Setting) -> str:
    return "-".join(map(str, setting))


def path_of(name: str, request: pytest.FixtureRequest) -> Path:
    if name == DIGITS:
        return SOURCE / "examples" / "data" / DIGITS
    return request.getfixturevalue("shared_data") / name


class Features:
    """The features of a file in float64, and their norms, each taken once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with h5py.File(path) as file:
            self.splits = ["id_test", *(f"ood/{name}" for name in file["ood"])]
            self.rows: dict[str, Array] = {
                split: file[f"{split}/features"][:].astype(np.float64)
                for split in ("train", *self.splits)}
            self.labels = file["train/labels"][:]
        self.counts = np.bincount(self.labels)
        self.means = np.stack([self.rows["train"][self.labels == k].mean(axis=0)
                               for k in range(len(self.counts))])
        self._norms: dict[tuple[str, float], Array] = {}

    def norms(self, split: str, order: float) -> Array:
        """|x|_order of every row, [n, 1]."""
        key = split, order
        if key not in self._norms:
            self._norms[key] = np.linalg.norm(self.rows[split], order, axis=1, keepdims=True)
        return self._norms[key]


@pytest.fixture(scope="module", params=[DIGITS, DENSENET, RESNET])
def data(request: pytest.FixtureRequest) -> Features:
    return Features(path_of(request.param, request))


class Transcription:
    """S(z) = logsumexp_k (log pi_k - d(z, mu_k) / t - log Phi_k) in float64.

    d(z, mu) = |z|_q^2 / 2 + |mu|_q^2 / 2 - <z, g>, for rows and means of unit l_p norm.
    """

    def __init__(self, data: Features, setting: Setting) -> None:
        self.data = data
        self.p, self.t = setting.p, setting.temperature
        self.q = self.p / (self.p - 1)
        mu = data.means / (np.linalg.norm(data.means, self.p, axis=1, keepdims=True) + 1e-10)
        self.sizes = np.linalg.norm(mu, self.q, axis=1)
        # |mu_k|_q over the features of class k, or the norm of each feature over the classes
        size = self.sizes[:, None] if setting.gradient == "paper" else (
            np.linalg.norm(mu, self.q, axis=0))
        self.gradients = np.sign(mu) * np.abs(mu) ** (self.q - 1) / size ** (self.q - 2)

        exponents, losses = self.exponents("train")
        if setting.partition == "per_class":
            exponents = np.where(data.labels[:, None] == np.arange(len(mu)), exponents, -np.inf)
        self.log_phi = logsumexp(exponents, axis=0)
        self.log_phi_loss = losses.max()
        shares = data.counts / data.counts.sum()
        self.log_prior = np.log(shares if setting.class_prior == "empirical" else 1 / len(mu))

    def exponents(self, split: str) -> tuple[Array, Array]:
        """-d(z_i, mu_k) / t, [n, C], and what float32 products may lose of those of a row.

        A product <x, y> of float32 rows loses about (4 + sqrt(D)) 2^-24 sum |x_i y_i|, where the
        sum is at most |z|_q |g|_p by Hoelder's inequality; as much is granted to the other terms.
        """
        unit = 1 / (self.data.norms(split, self.p) + 1e-10)
        size = self.data.norms(split, self.q) * unit
        half_squares = size**2 / 2 + self.sizes**2 / 2
        products = (self.data.rows[split] @ self.gradients.T) * unit
        bound = size * np.linalg.norm(self.gradients, self.p, axis=1)
        loss = (4 + np.sqrt(self.data.means.shape[1])) * 2.0**-24 / self.t
        return (products - half_squares) / self.t, loss * (half_squares + bound).max(axis=1)

    def scores(self, split: str) -> tuple[Array, Array]:
        """Scores, and what float32 may lose of them; log-sum-exp adds nothing of its own."""
        exponents, losses = self.exponents(split)
        return (logsumexp(exponents + self.log_prior - self.log_phi, axis=1),
                losses + self.log_phi_loss)


def auroc(id_scores: Array, ood_scores: Array) -> float:
    return float(roc_auc_score(np.repeat([1, 0], [len(id_scores), len(ood_scores)]),
                               np.concatenate([id_scores, ood_scores])))


@pytest.mark.parametrize(("setting", "means"), TABLE,
                         ids=[name_of(setting) for setting, _ in TABLE])
def test_table_of_the_settings_of_the_authors(evaluate: Callable[..., Any], shared_data: Path,
                                              setting: Setting,
                                              means: tuple[float, float]) -> None:
    options = [text for name, value in setting._asdict().items()
               for text in ("-p", f"conjnorm.{name}={value}")]
    report = evaluate(shared_data / DENSENET, "-d", "conjnorm", *options)
    got = {mean["kind"]: 100 * mean["auroc"] for mean in report["means"]}
    assert (got["far"], got["near"]) == pytest.approx(means, abs=0.02)


@pytest.mark.parametrize("setting", [*AUTHORS, *PUBLISHED, *OTHERS], ids=name_of)
def test_agrees_with_float64(score_rows: Callable[..., np.ndarray], data: Features,
                             setting: Setting) -> None:
    transcription = Transcription(data, setting)
    all_scores = score_rows(data.path, data.splits, "conjnorm", **setting._asdict())
    sizes = [len(data.rows[split]) for split in data.splits]
    assert len(all_scores) == sum(sizes)
    got = dict(zip(data.splits, np.split(all_scores, np.cumsum(sizes)[:-1])))
    want: dict[str, Array] = {}
    for split in data.splits:
        want[split], loss = transcription.scores(split)
        # Near zero, which scores may cross, only what float32 loses of their terms is a measure.
        size = np.abs(want[split])
        allowed = np.maximum(1e-4 * size, np.where(size < 5, loss, 0))
        error = np.abs(got[split] - want[split]) / allowed
        assert error.max() <= 1, f"{split}, row {error.argmax()}"
    for split in data.splits[1:]:
        # A pair of near scores in another order is more than 1e-5 of the few pairs of the digits.
        pairs = len(want["id_test"]) * len(want[split])
        assert auroc(got["id_test"], got[split]) == pytest.approx(
            auroc(want["id_test"], want[split]), abs=max(1e-5, 2 / pairs)), split


@pytest.mark.parametrize("gradient", ["paper", "published_code"])
def test_far_rows_still_rank(score_rows: Callable[..., np.ndarray], data: Features,
                             gradient: str) -> None:
    setting = Setting(1.5, 0.0005, "per_class", gradient)
    transcription = Transcription(data, setting)
    scores = {split: transcription.scores(split) for split in data.splits}
    farthest = min(data.splits, key=lambda split: np.median(scores[split][0]))
    want, loss = scores[farthest]
    # The authors' scripts add 1e-15 inside the logarithm: most of these rows tie there.
    assert len(np.unique(np.log(np.exp(want) + 1e-15))) < len(want) / 2

    got = score_rows(data.path, [farthest], "conjnorm", **setting._asdict())
    # Of thousands of different numbers, two may be one float32 number by chance.
    assert len(np.unique(got)) >= 0.999 * len(np.unique(want))
    # All rows that lie below a row by more than float32 may lose of both score lower than it.
    order = np.argsort(want)
    got, want = got[order], want[order]
    below = np.searchsorted(want, want - 2 * loss.max())
    highest_below = np.concatenate([[-np.inf], np.maximum.accumulate(got)])[below]
    assert np.all(highest_below < got)
