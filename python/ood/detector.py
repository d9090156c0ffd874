"""What all detectors have in common."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from . import _gpu, _ood
from ._arrays import Floats, as_arrays, as_floats, is_on_gpu
from .dataset import Dataset, Split

Rows = Split | Mapping[str, Any]
Self = TypeVar("Self", bound="Detector")


class NotFittedError(ValueError, AttributeError):
    """score() before fit(). Where scikit-learn is in use, it is its NotFittedError too."""

    def __reduce__(self) -> Any:
        return _not_fitted, self.args


class FitWarning(UserWarning):
    """What a fit found out about itself that makes its scores doubtful."""


def _not_fitted(message: str) -> Exception:
    if "sklearn" not in sys.modules:
        return NotFittedError(message)
    from sklearn.exceptions import NotFittedError as SklearnError

    both = type("NotFittedError", (NotFittedError, SklearnError), {"__module__": __name__})
    return both(message)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Diagnostics:
    """What a fit found out about itself."""

    #: Of the whole fit.
    values: dict[str, Any]
    #: Arrays with an entry for each class.
    per_class: dict[str, npt.NDArray[np.float64]]
    #: A line each.
    warnings: list[str]


@dataclass(frozen=True)
class RowsUsed:
    """The rows that something was computed from."""

    #: "" for arrays in memory.
    file: str
    #: Of the file, as `xxh128sum` prints it, or of arrays in memory.
    fingerprint: str
    #: "train", "id_val, train"; "" where no rows were needed or their place is not known.
    split: str
    rows: int
    #: D
    dim: int
    #: C
    classes: int
    #: Whether the split has other rows too.
    part: bool


@dataclass(frozen=True)
class Calibration:
    """The scores that new scores are compared with, and what follows from them."""

    rows: int
    #: The share of ID rows that may be rejected.
    alpha: float
    #: Whether each row is compared with those of its predicted class alone.
    by_class: bool
    #: Rows that score below it are rejected; None if by class.
    threshold: float | None
    #: Sorted; of more than 65,537 rows those at evenly spaced ranks.
    scores: npt.NDArray[np.float64]
    on: RowsUsed
    #: What makes p-values doubtful, a line each.
    warnings: list[str]


class Detector:
    """Says how in-distribution each sample is. A HIGHER SCORE MEANS MORE IN-DISTRIBUTION.

    The class of each detector has its options as keywords. They follow scikit-learn: options are
    attributes, checked when the object is made and again by fit(); `get_params`, `set_params`, `clone`,
    pickle and deepcopy work. Arrays are NumPy arrays, PyTorch CPU tensors, or anything with __dlpack__,
    the buffer protocol or __array__. float32 rows are used where they lie; other floating-point
    types, and rows whose entries are not side by side, are copied once.

    Errors: TypeError for arrays of integers or objects, ValueError for everything else that is wrong
    with options and arrays, NotFittedError for score() before fit(), OSError for files.
    """

    _name: ClassVar[str]
    _options: ClassVar[tuple[str, ...]] = ()
    _presets: ClassVar[dict[str, dict[str, Any]]] = {}
    _model: _ood.Model | None = None

    # Options, as scikit-learn wants them.

    def _check_options(self) -> None:
        self._new_model()

    def _new_model(self) -> _ood.Model:
        return _ood.Model(self._name, self.get_params())

    @classmethod
    def preset(cls: type[Self], name: str, **options: Any) -> Self:
        """A detector with options that somebody published together, and others beside them, which win.

        >>> import ood
        >>> ood.ConjNorm.preset("cifar10", samples=500).temperature
        0.05
        """
        if name not in cls._presets:
            raise ValueError(f"{cls.__name__}: preset has {name}, expected "
                             f"{'one of ' + ', '.join(cls._presets) if cls._presets else 'none'}")
        return cls(**(cls._presets[name] | options))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The options by name."""
        return {name: getattr(self, name) for name in self._options}

    def set_params(self: Self, **options: Any) -> Self:
        """Sets options by name, all or none. What was fitted with others has to be fitted again."""
        before = self.get_params()
        for name in options.keys() - before.keys():
            raise ValueError(f"{type(self).__name__}: unknown option {name}, expected "
                             f"{'one of ' + ', '.join(before) if before else 'none'}")
        _ood.Model(self._name, before | options)
        for name, value in options.items():
            setattr(self, name, value)
        return self

    # Fitting and scoring.

    @property
    def needs(self) -> dict[str, Any]:
        """The arrays that are needed: {"fit": [...], "split": "train", "outliers": [...], "score": [...]}."""
        return self._new_model().needs

    def fit(self: Self, X: Dataset | Split | Any = None, y: Any = None, *, features: Any = None,
            logits: Any = None, labels: Any = None, layers: Mapping[str, Any] | None = None,
            copy_features: Any = None, copy_logits: Any = None,
            head: tuple[Any, Any] | None = None, id_val: Rows | None = None,
            ood_val: Mapping[str, Rows] | None = None, threads: int = 0) -> Self:
        """Fits on in-distribution rows and returns self. A second fit forgets the first.

        X: a `Dataset`, whose splits are taken as the detector needs them; a `Split`; or the one array
        that the detector scores, features [n, D] or logits [n, C], with y as the labels.
        Else arrays by name: features [n, D], logits [n, C], labels [n] in [0, C), layers
        {name: [n, D_l]}, copy_features [K, n, D], copy_logits [K, n, C], head (weight [C, D], bias
        [C]). Logits that are not given are computed from features and head.

        id_val: rows that some detectors ask for instead of training rows, a `Split` or a mapping of
        arrays; ood_val: validation outliers by name. threads: 0 = all.
        """
        model = self._new_model()
        given = {"features": features, "logits": logits, "labels": labels, "layers": layers,
                 "copy_features": copy_features, "copy_logits": copy_logits, "head": head}
        width = None
        if isinstance(X, Dataset):
            self._refuse(given | {"y": y, "id_val": id_val, "ood_val": ood_val}, "fit", "a Dataset")
            model.fit_dataset(X._file, threads)
        else:
            rows: Rows
            if isinstance(X, Split):
                self._refuse(given | {"y": y}, "fit", "a Split")
                rows = X
            else:
                rows = given = self._with_positional(model, given, X, y, "fit")
                for name in ("logits", "features"):
                    if given[name] is not None:
                        given[name] = as_floats(given[name], name)
                        width = given[name].shape[1]
            train = None if _is_empty(rows) else _source(rows, "memory")
            val = None if id_val is None else _source(id_val, "id_val", head)
            outliers = {name: _source(outlying, f"ood_val/{name}", head)
                        for name, outlying in (ood_val or {}).items()}
            if train or val or outliers or not model.fitted:  # what has no fit needs no rows
                model.fit(train, val, outliers, threads)
                # the split that was used, where it is one of a file
                used = id_val if model.needs["split"] == "id_val" and id_val is not None else X
                if isinstance(used, Split):
                    model.set_fitted_on(used._dataset.path, used.name, used._dataset._file.fingerprint)
        self._model = model
        vars(self).pop("n_features_in_", None)
        if width is not None:
            self.n_features_in_ = width
        for warning in model.diagnostics["warnings"]:
            warnings.warn(f"{type(self).__name__}: {warning}", FitWarning, stacklevel=2)
        return self

    def score(self, X: Split | Any = None, y: Any = None, *, features: Any = None, logits: Any = None,
              layers: Mapping[str, Any] | None = None, copy_features: Any = None,
              copy_logits: Any = None, head: tuple[Any, Any] | None = None,
              threads: int = 0, device: str | None = None, out: Any = None) -> Floats:
        """The score of each row, float32 [n]; higher = more in-distribution.

        X: a `Split`, which is read block by block, or the one array that the detector scores; else
        arrays by name, as in fit(). y is ignored: scikit-learn's Pipeline gives it. Logits that are not
        given are computed from features and head. A row in memory that has NaN or infinity scores NaN;
        one of a file, and one whose logits are computed, raises ValueError. Safe to call from several
        threads; the interpreter is free meanwhile.

        device: what scores, "cpu", "cuda" or "cuda:1" (see ood.devices()); None = where the arrays lie.
        float32 arrays on a GPU (PyTorch's, CuPy's, any with __dlpack__ or __cuda_array_interface__) are
        used in place, on the stream that their library works on, and so is the result: a new array of
        that library, or `out`. It is work of that stream like any other: nobody waits for it here.
        """
        model = self._scoring_model()
        given = {"features": features, "logits": logits, "layers": layers, "copy_features": copy_features,
                 "copy_logits": copy_logits, "head": head}
        if not isinstance(X, (Dataset, Split)):
            given, X = self._with_positional(model, given, X, None, "score"), None
            arrays = _gpu.by_name(given)
            if any(map(is_on_gpu, arrays.values())):
                return _gpu.score(model, arrays, device, out)  # type: ignore[no-any-return]
        if out is not None:
            raise TypeError(f"{type(self).__name__}.score: out was given, which is for arrays on a GPU")
        rows = self._rows(model, "score", X, **given)
        if isinstance(rows, _ood.Source):
            return model.score_source(rows, threads, "cpu" if device is None else device)
        return model.score(rows, threads, "cpu" if device is None else device)

    def score_samples(self, X: Any) -> Floats:
        """scikit-learn's name of score(X)."""
        return self.score(X)

    # Decisions.

    def calibrate(self: Self, X: Split | Any = None, *, alpha: float = 0.05, by_class: bool = False,
                  features: Any = None, logits: Any = None, layers: Mapping[str, Any] | None = None,
                  copy_features: Any = None, copy_logits: Any = None,
                  head: tuple[Any, Any] | None = None, threads: int = 0,
                  device: str = "cpu") -> Self:
        """Takes the scores of ID rows as what new scores are compared with, and returns self.

        The rows must not be those of fit(), nor those that the network was trained on, as those score
        too high: take validation rows. alpha: the share of ID rows that accepts() may reject.
        by_class: a row is compared with those that the network assigns to the same class; needs
        logits. Rows are given as to score(), but not on a GPU; NaN and infinity raise ValueError. device:
        what scores, "cpu", "cuda" or "cuda:1".
        """
        model = self._scoring_model()
        rows = self._rows(model, "calibrate", X, by_class, features=features, logits=logits, layers=layers,
                          copy_features=copy_features, copy_logits=copy_logits, head=head)
        of_file = isinstance(X, Split)
        model.calibrate(rows if isinstance(rows, _ood.Source) else _ood.Source(rows),
                        X._dataset.path if of_file else "", X.name if of_file else "",
                        X._dataset._file.fingerprint if of_file else "", False, alpha, by_class, threads,
                        device)
        self._model = model
        for warning in model.calibration["warnings"]:
            warnings.warn(f"{type(self).__name__}: {warning}", FitWarning, stacklevel=2)
        return self

    def p_value(self, X: Split | Any = None, *, features: Any = None, logits: Any = None,
                layers: Mapping[str, Any] | None = None, copy_features: Any = None,
                copy_logits: Any = None, head: tuple[Any, Any] | None = None,
                threads: int = 0, device: str = "cpu") -> npt.NDArray[np.float64]:
        """Conformal p-values [n], after calibrate(): small = unlike the ID rows that it was calibrated on.

        P(p <= a) <= a for every a, for ID rows that are exchangeable with those. Rows are given as to
        calibrate(); device: what scores.
        """
        model = self._scoring_model()
        if not model.calibrated:
            raise _not_fitted(f"{type(self).__name__} is not calibrated: call calibrate before p_value and accepts")
        rows = self._rows(model, "p_value", X, model.calibration["by_class"], features=features, logits=logits,
                          layers=layers, copy_features=copy_features, copy_logits=copy_logits, head=head)
        if isinstance(rows, _ood.Source):
            return model.p_values_of_source(rows, threads, device)
        return model.p_values(rows, threads, device)

    def accepts(self, X: Split | Any = None, *, alpha: float | None = None, features: Any = None,
                logits: Any = None, layers: Mapping[str, Any] | None = None, copy_features: Any = None,
                copy_logits: Any = None, head: tuple[Any, Any] | None = None,
                threads: int = 0, device: str = "cpu") -> npt.NDArray[np.bool_]:
        """True for the rows that are taken for in-distribution: those whose p-value is above alpha, of
        which None is that of calibrate(). A row that scores NaN is rejected."""
        p_values = self.p_value(X, features=features, logits=logits, layers=layers,
                                copy_features=copy_features, copy_logits=copy_logits, head=head,
                                threads=threads, device=device)
        if alpha is None:
            alpha = self._scoring_model().calibration["alpha"]
        elif not 0 <= alpha < 1:
            raise ValueError(f"{type(self).__name__}.accepts: alpha has {alpha}, expected 0 or more, below 1")
        return np.asarray(p_values > alpha)

    @property
    def calibration(self) -> Calibration | None:
        """What calibrate() found; None before it, and when options were changed since."""
        try:
            model = self._scoring_model()
        except ValueError:  # not fitted
            return None
        if not model.calibrated:
            return None
        found = model.calibration
        return Calibration(**found | {"on": RowsUsed(**found["on"])})

    @property
    def fitted_on(self) -> RowsUsed:
        """The rows of the last fit."""
        return RowsUsed(**self._scoring_model().fitted_on)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fitted detector and its calibration to one file, all or nothing: see `load`.

        The format is that of `ood fit --out` and of C++; docs/model-file.md describes it.
        """
        self._scoring_model().save(os.fspath(path))

    @property
    def diagnostics(self) -> Diagnostics:
        """What the last fit found out about itself."""
        return Diagnostics(**self._scoring_model().diagnostics)

    def _scoring_model(self) -> _ood.Model:
        model = self._new_model()
        if self._model is not None and self._model.options == model.options:
            return self._model
        if not model.fitted:
            changed = " with these options" if self._model is not None else ""
            raise _not_fitted(f"{type(self).__name__} is not fitted{changed}: call fit before score")
        return model

    def _rows(self, model: _ood.Model, method: str, X: Any, with_logits: bool = False,
              **given: Any) -> _ood.Arrays | _ood.Source:
        """The rows of score() and its kin: a source where they are read or logits are computed."""
        if isinstance(X, Dataset):
            raise TypeError(f"{type(self).__name__}.{method} has a Dataset, expected one of its splits, such as "
                            "dataset.id_test")
        if isinstance(X, Split):
            self._refuse(given, method, "a Split")
            return X._source()
        arrays = as_arrays(self._with_positional(model, given, X, None, method))
        needs_logits = with_logits or "logits" in model.needs["score"]
        if given["head"] is not None and given["logits"] is None and needs_logits:
            return _ood.Source(arrays)
        return arrays

    def _refuse(self, given: Mapping[str, Any], method: str, instead: str) -> None:
        for name, value in given.items():
            if value is not None:
                raise TypeError(f"{type(self).__name__}.{method}: {name} was given beside {instead}, "
                                "expected one of them")

    def _with_positional(self, model: _ood.Model, given: dict[str, Any], X: Any, y: Any,
                         method: str) -> dict[str, Any]:
        """`given` with X and y under their names."""
        if X is not None:
            needed = model.needs["score"]
            if len(needed) != 1 or needed[0] not in ("features", "logits"):
                raise TypeError(f"{type(self).__name__}.{method} needs {', '.join(needed)}: give each by its "
                                "name")
            if given[needed[0]] is not None:
                raise TypeError(f"{type(self).__name__}.{method}: {needed[0]} was given twice")
            given[needed[0]] = X
        if y is not None:
            if given["labels"] is not None:
                raise TypeError(f"{type(self).__name__}.{method}: labels were given twice")
            if "labels" in model.needs["fit"]:
                given["labels"] = y
        return given

    # Python's and scikit-learn's protocols.

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({options})"

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in vars(self).items() if key != "_model"}
        if self._model is not None:
            state["_model"] = self._model.to_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_model" in state:
            self._model = _ood.Model.from_bytes(*state["_model"])

    def __sklearn_is_fitted__(self) -> bool:
        return self._model is not None or self._new_model().fitted

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required="labels" in self.needs["fit"]),
                    input_tags=InputTags(), requires_fit=bool(self.needs["fit"]))


def load(path: str | os.PathLike[str]) -> Detector:
    """The detector that `Detector.save`, `ood fit --out` or C++ wrote to this file, fitted, and calibrated if it
    was: the same bits.

    >>> import numpy as np, ood, tempfile, pathlib
    >>> logits = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.ood"
    >>> ood.Energy().calibrate(logits, alpha=0.1).save(path)
    >>> detector = ood.load(path)
    >>> int(detector.accepts(logits).sum())
    181
    """
    from .detectors import DETECTORS

    model = _ood.load_model(os.fspath(path))
    options = {name: tuple(value) if isinstance(value, list) else value
               for name, value in model.options.items()}
    detector = DETECTORS[model.name](**options)
    detector._model = model
    return detector


def _is_empty(rows: Rows) -> bool:
    return not isinstance(rows, Split) and all(value is None for value in rows.values())


def _source(rows: Rows, name: str, head: tuple[Any, Any] | None = None) -> _ood.Source:
    if isinstance(rows, Split):
        return rows._source()
    if not isinstance(rows, Mapping):
        raise TypeError(f"{name} has a {type(rows).__name__}, expected a Split or a mapping of arrays by name")
    return _ood.Source(as_arrays({"head": head, **rows}, name))
