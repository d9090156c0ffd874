"""What every detector's class promises: options, state, errors."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ood
from conftest import (KEYWORDS, QUICK, SOURCE, fit_arguments, fit_on_rows, make, make_head, make_rows, make_strange_rows,
                      same_bits, score_arguments)

NAMES = list(ood.DETECTORS)
FIT_FREE = [name for name in NAMES if not ood.DETECTORS[name]().needs["fit"]]
FIT_BOUND = [name for name in NAMES if name not in FIT_FREE]


def scores_of(detector: ood.Detector, seed: int = 9) -> np.ndarray:
    return detector.score(**score_arguments(detector, make_rows(seed)))


# --- The list of classes.

def test_a_class_for_each_detector_of_the_type_list() -> None:
    listed = (SOURCE / "include/ood/detectors.h").read_text().split("using Detectors =")[1].split(";")[0]
    names = re.findall(r"\w+", listed.split("TypeList<")[1])
    assert len(names) == len(ood.DETECTORS) > 50
    assert [name.lower() for name in names] == [cls.__name__.lower() for cls in ood.DETECTORS.values()]
    for cls in ood.DETECTORS.values():
        assert getattr(ood, cls.__name__) is cls and cls.__name__ in ood.__all__
        assert issubclass(cls, ood.Detector)


def test_options_and_defaults_are_those_of_the_command(command: str) -> None:
    """`ood list` prints "  knn.k = 50 ..." from the same type list."""
    import subprocess

    text = subprocess.run([command, "list"], capture_output=True, text=True, check=True).stdout
    listed = {match[1]: match[2] for match in re.finditer(r"^\s+(\w+\.\w+) = (\S*)", text, re.M)
              if not match[1].endswith(".preset")}
    ours = {}
    for name, cls in ood.DETECTORS.items():
        for option, value in cls().get_params().items():
            ours[f"{name}.{option}"] = value
    assert ours.keys() == listed.keys()
    for key, value in ours.items():
        if isinstance(value, bool):
            assert listed[key] == str(value).lower(), key
        elif isinstance(value, (int, float)):
            assert float(listed[key]) == value, key
        elif isinstance(value, str) and value:
            assert listed[key] == value, key


# --- Options.

@pytest.mark.parametrize("name", NAMES)
def test_default_options(name: str) -> None:
    detector = ood.DETECTORS[name]()
    params = detector.get_params()
    signature = inspect.signature(type(detector).__init__).parameters
    assert [*params] == [parameter for parameter in signature if parameter != "self"]
    for option, value in params.items():
        assert getattr(detector, option) is value
        assert signature[option].default == value
        assert signature[option].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", NAMES)
def test_the_repr_is_the_detector(name: str) -> None:
    catalog = next(entry for entry in ood._ood.catalog() if entry["name"] == name)
    detectors = [ood.DETECTORS[name]()]
    for option in catalog["options"]:
        for value in option["sweep"]:
            try:
                detectors.append(ood.DETECTORS[name](**{option["name"]: value}))
            except ValueError:
                continue  # a value that needs another option beside it
    for detector in detectors:
        again = eval(repr(detector), vars(ood))
        assert type(again) is type(detector)
        assert again.get_params() == detector.get_params()
        assert all(f"{option}={value!r}" in repr(detector) for option, value in detector.get_params().items())


@pytest.mark.parametrize("name", NAMES)
def test_options_hide_nothing_of_the_class(name: str) -> None:
    """Options are attributes: none may be called like a method, and none may start like a private one."""
    taken = set(dir(ood.Detector)) | {"X", "y", "n_features_in_", "feature_names_in_"}
    options = set(ood.DETECTORS[name]().get_params())
    assert not options & taken
    assert not any(option.startswith("_") or option.endswith("_") for option in options)


def other_values(name: str) -> list[tuple[str, Any]]:
    """A value for each option that is not its default."""
    catalog = next(entry for entry in ood._ood.catalog() if entry["name"] == name)
    values = []
    for option in catalog["options"]:
        for value in option["sweep"]:
            if value != option["default"]:
                try:
                    ood.DETECTORS[name](**{option["name"]: value})
                except ValueError:
                    continue
                values.append((option["name"], value))
                break
    return values


@pytest.mark.parametrize("name", NAMES)
def test_get_and_set_params(name: str) -> None:
    for option, value in other_values(name):
        detector = ood.DETECTORS[name]()
        before = detector.get_params()
        assert detector.set_params(**{option: value}) is detector
        assert detector.get_params() == before | {option: value}
        assert detector.get_params(deep=False) == detector.get_params(deep=True)
        assert detector.set_params(**before).get_params() == before
        assert detector.set_params().get_params() == before


def test_most_options_were_tried() -> None:
    tried = sum(len(other_values(name)) for name in NAMES)
    assert tried >= 40


@pytest.mark.parametrize("name", NAMES)
def test_wrong_options_are_named(name: str) -> None:
    cls = ood.DETECTORS[name]
    for option, default in cls().get_params().items():
        if (name, option) == ("layers", "layers"):
            continue  # any name may be one of a layer
        wrong = "no such thing" if not isinstance(default, str) else 0.123
        with pytest.raises(ValueError, match=rf"\b{option}\b") as error:
            cls(**{option: wrong})
        assert "expected" in str(error.value) and "\n" not in str(error.value)
        detector = cls()
        with pytest.raises(ValueError, match=rf"\b{option}\b"):
            detector.set_params(**{option: wrong})
        assert detector.get_params() == cls().get_params()
        for nothing in (None, object(), 1j, {"a": 1}):
            with pytest.raises((TypeError, ValueError), match=rf"\b{option}\b"):
                cls(**{option: nothing})


@pytest.mark.parametrize("options", [
    {"k": 0}, {"k": -1}, {"k": 1.5}, {"k": True}, {"k": math.nan}, {"k": math.inf}, {"k": 2**63}, {"k": 2**70},
    {"bank_share": 0}, {"bank_share": 1.1}, {"bank_share": math.nan}, {"bank_share": 2**70}, {"aggregate": "median"},
    {"aggregate": ""}, {"normalize": 2}, {"seed": -1}])
def test_values_out_of_range(options: dict[str, Any]) -> None:
    option, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"option {option} has .*, expected "):
        ood.Knn(**options)


def test_set_params_sets_all_or_none() -> None:
    detector = ood.Knn(k=7)
    for wrong in ({"k": 3, "bank_share": 5.0}, {"k": 3, "nonsense": 1}, {"nonsense": 1, "k": 3}):
        with pytest.raises(ValueError, match="bank_share|nonsense"):
            detector.set_params(**wrong)
        assert detector.k == 7
    with pytest.raises(ValueError, match="unknown option nonsense, expected none"):
        ood.MaxLogit().set_params(nonsense=1)
    with pytest.raises(TypeError, match="nonsense"):
        ood.Knn(nonsense=1)  # type: ignore[call-arg]


def test_the_example_of_the_issue() -> None:
    detector = ood.ConjNorm(p=2.5, temperature=0.08, partition="importance")
    rows = make_rows(1)
    assert detector.fit(features=rows["features"], labels=rows["labels"]) is detector
    scores = detector.score(features=rows["features"])
    assert scores.dtype == np.float32 and scores.shape == (len(rows["labels"]),)
    assert repr(detector).startswith("ConjNorm(p=2.5, temperature=0.08, ")
    assert "partition='importance'" in repr(detector)


def test_numpy_scalars_and_arrays_are_options() -> None:
    rows = make_rows(1)
    plain = ood.Knn(k=4, normalize=False, bank_share=0.5).fit(rows["features"])
    numbers = ood.Knn(k=np.int32(4), normalize=np.bool_(False), bank_share=np.float64(0.5)).fit(rows["features"])
    assert same_bits(scores_of(plain), scores_of(numbers))
    options = {"class_prior": "given", "samples": 64}
    lists = [[0.2, 0.3, 0.5], (0.2, 0.3, 0.5), np.array([0.2, 0.3, 0.5])]
    detectors = [ood.ConjNorm(priors=priors, **options).fit(rows["features"], rows["labels"]) for priors in lists]
    expected = scores_of(detectors[0])
    for detector in detectors:
        for each in (detector, copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
            assert same_bits(scores_of(each), expected)
            assert same_bits(scores_of(each.set_params(priors=np.array([0.2, 0.3, 0.5]))), expected)


def test_an_option_that_is_changed_in_place_is_a_changed_option() -> None:
    rows = make_rows(1)
    detector = ood.ConjNorm(priors=[0.2, 0.3, 0.5], class_prior="given", samples=64)
    detector.fit(rows["features"], rows["labels"])
    detector.priors[0], detector.priors[2] = 0.5, 0.2  # type: ignore[index]
    with pytest.raises(ood.NotFittedError, match="with these options"):
        scores_of(detector)


PRESETS = [(name, preset) for name, cls in ood.DETECTORS.items() for preset in cls._presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_presets(name: str, preset: str) -> None:
    cls = ood.DETECTORS[name]
    options = cls._presets[preset]
    detector = cls.preset(preset)
    assert type(detector) is cls
    assert {option: getattr(detector, option) for option in options} == options
    assert detector.get_params() == cls().get_params() | options
    for option, value in other_values(name):
        if option not in options:
            try:
                cls(**(options | {option: value}))
            except ValueError:
                continue
            assert cls.preset(preset, **{option: value}).get_params()[option] == value


def test_presets_by_name() -> None:
    assert len(PRESETS) >= 20
    assert ood.ConjNorm.preset("cifar10", p=3.0).p == 3.0
    with pytest.raises(ValueError, match="ConjNorm: preset has nonsense, expected one of cifar10, "):
        ood.ConjNorm.preset("nonsense")
    with pytest.raises(ValueError, match="Ssd: preset has nonsense, expected none"):
        ood.Ssd.preset("nonsense")


# --- Fit and score.

def test_scores_are_float32_and_finite(fitted: ood.Detector) -> None:
    scores = scores_of(fitted)
    assert scores.dtype == np.float32 and scores.shape == (120,)
    assert np.isfinite(scores).all()


# Others say nothing about rows between clusters: so few dimensions, logits of a linear map.
SEPARATES = ["msp", "nnguide", "mahalanobis", "conjnorm", "vim", "ssd", "gaussian_density", "layers", "fusion",
             "residual", "max_cosine", "kl_matching"]


@pytest.mark.parametrize("name", SEPARATES)
def test_higher_is_more_in_distribution(name: str) -> None:
    detector = fit_on_rows(make(name))
    strange = make_strange_rows(9)
    outliers = detector.score(**score_arguments(detector, strange))
    assert ood.metrics.auroc(scores_of(detector), outliers) > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_fit_takes_what_is_needed_and_returns_self(name: str) -> None:
    detector = make(name)
    arguments = fit_arguments(detector, make_rows(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ood.FitWarning)
        assert detector.fit(**arguments) is detector


@pytest.mark.parametrize("name", FIT_BOUND)
def test_each_missing_array_is_named(name: str) -> None:
    detector = make(name)
    arguments = fit_arguments(detector, make_rows(1))
    for key in arguments:
        given = {other: value for other, value in arguments.items() if other != key}
        if key == "logits" and "head" in given:
            continue  # they are computed
        with pytest.raises((TypeError, ValueError)) as error:
            make(name).fit(**given)
        text = str(error.value)
        assert "\n" not in text
        named = {**{v: k for k, v in KEYWORDS.items()}, "ood_val": "outliers"}.get(key, key)
        assert named in text or key in text or "no rows to fit on" in text, text
    for key, value in score_arguments(detector, make_rows(1)).items():
        given = {k: v for k, v in score_arguments(detector, make_rows(1)).items() if k != key}
        trained = fit_on_rows(make(name))
        with pytest.raises((TypeError, ValueError), match="no " + KEYWORDS.get(key, key).replace("copy_", ".*") + "|no "):
            trained.score(**given)


@pytest.mark.parametrize("name", FIT_BOUND)
def test_score_before_fit(name: str) -> None:
    detector = make(name)
    with pytest.raises(ood.NotFittedError, match=f"^{type(detector).__name__} is not fitted: call fit"):
        scores_of(detector)
    with pytest.raises(ood.NotFittedError):
        detector.diagnostics
    assert issubclass(ood.NotFittedError, ValueError) and issubclass(ood.NotFittedError, AttributeError)


@pytest.mark.parametrize("name", FIT_FREE)
def test_what_needs_no_fit_scores_at_once(name: str) -> None:
    expected = scores_of(make(name))
    assert same_bits(scores_of(make(name).fit()), expected)
    assert same_bits(scores_of(fit_on_rows(make(name))), expected)


@pytest.mark.parametrize("name", [name for name in FIT_BOUND if other_values(name)])
def test_options_that_change_after_fit(name: str) -> None:
    option, value = other_values(name)[0]
    detector = fit_on_rows(make(name))
    before = detector.get_params()
    expected = scores_of(detector)
    setattr(detector, option, value)
    with pytest.raises(ood.NotFittedError, match="not fitted with these options"):
        scores_of(detector)
    detector.set_params(**before)
    assert same_bits(scores_of(detector), expected)
    setattr(detector, option, object())
    with pytest.raises((TypeError, ValueError), match=option):
        scores_of(detector)


@pytest.mark.parametrize("name", FIT_BOUND)
def test_a_second_fit_forgets_the_first(name: str) -> None:
    detector = fit_on_rows(make(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ood.FitWarning)
        detector.fit(**fit_arguments(detector, make_rows(21), make_rows(22)))
        fresh = make(name).fit(**fit_arguments(detector, make_rows(21), make_rows(22)))
    assert same_bits(scores_of(detector), scores_of(fresh))


def test_a_fit_that_fails_leaves_the_last_one() -> None:
    rows = make_rows(1)
    detector = ood.Ssd().fit(rows["features"])
    expected = scores_of(detector)
    with pytest.raises(ValueError):
        detector.fit(np.full((5, 12), np.nan, np.float32))
    assert same_bits(scores_of(detector), expected)


def test_positional_arrays_are_those_of_the_keyword() -> None:
    rows = make_rows(1)
    for name in NAMES:
        detector = fit_on_rows(make(name))
        needed = detector.needs["score"]
        if needed in (["features"], ["logits"]):
            by_name = scores_of(detector)
            assert same_bits(detector.score(make_rows(9)[needed[0]]), by_name)
            assert same_bits(detector.score_samples(make_rows(9)[needed[0]]), by_name)
        else:
            with pytest.raises(TypeError, match="give each by its name"):
                detector.score(rows["features"])


def test_an_array_that_is_given_twice() -> None:
    rows = make_rows(1)
    detector = ood.Ssd()
    with pytest.raises(TypeError, match="features was given twice"):
        detector.fit(rows["features"], features=rows["features"])
    with pytest.raises(TypeError, match="labels were given twice"):
        ood.Mahalanobis().fit(rows["features"], rows["labels"], labels=rows["labels"])


@pytest.mark.parametrize("name", ["energy", "msp", "gradnorm", "vim", "kl_matching", "fdbd"])
def test_logits_are_computed_from_features_and_head(name: str) -> None:
    """To the bit those of the file's reader, and close to NumPy's."""
    rows, head = make_rows(1), make_head()
    detector = make(name)
    given = {"features": rows["features"], "labels": rows["labels"], "head": head}
    wanted = fit_arguments(detector, rows)
    detector.fit(**{key: value for key, value in given.items()
                    if key in wanted or key in ("features", "head")})
    computed = detector.score(features=rows["features"], head=head)
    weight, bias = (array.astype(np.float64) for array in head)
    logits = (rows["features"].astype(np.float64) @ weight.T + bias).astype(np.float32)
    explicit = fit_on_rows(make(name)) if "split" in detector.needs and detector.needs["split"] == "id_val" else make(name)
    explicit.fit(**(wanted | ({"logits": logits} if "logits" in wanted else {})))
    stored = explicit.score(**(score_arguments(detector, rows) | {"logits": logits}))
    assert np.allclose(computed, stored, rtol=1e-3, atol=1e-4)


# --- Copies of a detector.

def test_pickle_and_deepcopy_keep_every_bit(fitted: ood.Detector) -> None:
    expected = scores_of(fitted)
    copies = [copy.deepcopy(fitted), copy.copy(fitted)]
    copies += [pickle.loads(pickle.dumps(fitted, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    for each in copies:
        assert type(each) is type(fitted)
        assert each.get_params() == fitted.get_params()
        assert repr(each) == repr(fitted)
        assert same_bits(scores_of(each), expected)


@pytest.mark.parametrize("name", NAMES)
def test_unfitted_detectors_are_pickled_too(name: str) -> None:
    detector = make(name)
    for each in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        assert each.get_params() == detector.get_params()
        if name in FIT_BOUND:
            with pytest.raises(ood.NotFittedError):
                scores_of(each)


def test_a_deepcopy_is_independent() -> None:
    first = ood.Ssd().fit(make_rows(1)["features"])
    second = copy.deepcopy(first)
    expected = scores_of(first)
    second.fit(make_rows(31)["features"])
    assert same_bits(scores_of(first), expected)
    assert not same_bits(scores_of(second), expected)


def test_pickles_are_read_in_another_process(tmp_path: Path, python: Any) -> None:
    detector = fit_on_rows(make("conjnorm", samples=64))
    rows = make_rows(9)["features"]
    (tmp_path / "detector.pickle").write_bytes(pickle.dumps(detector))
    np.save(tmp_path / "rows.npy", rows)
    result = python("""
import pickle, sys
import numpy as np
detector = pickle.load(open(sys.argv[1] + "/detector.pickle", "rb"))
print(detector.score(np.load(sys.argv[1] + "/rows.npy")).tobytes().hex())
""", tmp_path)
    assert result.stdout.strip() == scores_of(detector).tobytes().hex()


def test_a_spoiled_pickle_is_an_error() -> None:
    content = pickle.dumps(ood.Ssd().fit(make_rows(1)["features"]))
    state = ood._ood.Model.from_bytes
    whole, *rest = ood.Ssd().fit(make_rows(1)["features"])._model.to_bytes()
    for spoiled in (b"", whole[:10], whole[: len(whole) // 2], b"x" + whole[1:]):
        with pytest.raises((ValueError, RuntimeError)):
            state(spoiled, *rest)
    for spoiled in (b"", rest[0][:10], b"x" + rest[0][1:]):
        with pytest.raises((ValueError, RuntimeError)):
            state(whole, spoiled, *rest[1:])
    assert whole in content


# --- What a fit says about itself.

def test_diagnostics(fitted: ood.Detector) -> None:
    found = fitted.diagnostics
    assert isinstance(found, ood.Diagnostics)
    assert isinstance(found.values, dict) and isinstance(found.warnings, list)
    for values in found.per_class.values():
        assert values.dtype == np.float64 and values.shape == (3,)


def test_fit_warnings_are_warnings() -> None:
    rows = make_rows(1)
    detector = ood.Fusion()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(features=rows["features"], logits=rows["logits"])
    said = [str(each.message) for each in caught if each.category is ood.FitWarning]
    assert said == [f"Fusion: {warning}" for warning in detector.diagnostics.warnings]
    assert said
    assert all(Path(each.filename) == Path(__file__) for each in caught)


def test_quick_options_exist() -> None:
    for name, options in QUICK.items():
        assert options.keys() <= ood.DETECTORS[name]().get_params().keys()
