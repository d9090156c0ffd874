"""Every public name says what it is, and what it shows as an example is so."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import types
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import ood


def public() -> Iterator[tuple[str, Any]]:
    """All public modules, classes, functions, methods and properties."""
    modules: list[tuple[str, types.ModuleType, list[str]]] = [
        ("ood", ood, list(ood.__all__)), ("ood.metrics", ood.metrics, list(ood.metrics.__all__))]
    if importlib.util.find_spec("distributed"):
        module = importlib.import_module("ood.dask")
        modules.append(("ood.dask", module, list(vars(module)["__all__"])))
    for module_name, module, names in modules:
        yield module_name, module
        for name in names:
            thing = getattr(module, name)
            if inspect.isclass(thing):
                yield f"{module_name}.{name}", thing
                for key, member in vars(thing).items():
                    function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
                    if not key.startswith("_") and (inspect.isfunction(function) or isinstance(member, property)):
                        yield f"{module_name}.{name}.{key}", function
            elif inspect.isfunction(thing):
                yield f"{module_name}.{name}", thing


PUBLIC = dict(public())

# What a name and a type say already: text would say them again.
EVIDENT = {"ood.Array.ndim", "ood.Dataset.path", "ood.Dataset.train", "ood.Dataset.id_val", "ood.Dataset.id_test"}


def test_there_are_names() -> None:
    assert len(PUBLIC) > 100 and "ood.ConjNorm" in PUBLIC and "ood.metrics.compare" in PUBLIC
    assert "ood.Report.to_json" in PUBLIC and "ood.Detector.preset" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name: str) -> None:
    if name in EVIDENT:
        return
    text = PUBLIC[name].__doc__
    assert text and text.strip(), f"{name} has no docstring"
    assert not text.startswith("dict("), "that of the class's base"
    assert "std::" not in text and "///" not in text, f"{name} speaks C++"


@pytest.mark.parametrize("cls", ood.DETECTORS.values(), ids=lambda cls: cls.__name__)
def test_detectors_say_all_about_themselves(cls: type[ood.Detector]) -> None:
    text = inspect.getdoc(cls) or ""
    for section in ("Fit: ", "Score: ", "Cost: ", "Source: ", "Example\n-------"):
        assert section in text, f"{cls.__name__} has no {section.strip()}"
    for option, default in cls().get_params().items():
        assert f"\n{option} : " in text
    for preset in cls._presets:
        assert f"\n{preset}\n" in text
    assert all(len(line) <= 110 for line in text.splitlines())


EXAMPLES = {name: found for name, thing in PUBLIC.items() if thing.__doc__ for found in
            doctest.DocTestFinder(recurse=False).find(thing.fget if isinstance(thing, property) else thing, name,
                                                      globs={}) if found.examples}


def test_there_are_examples() -> None:
    classes = {f"ood.{cls.__name__}" for cls in ood.DETECTORS.values()}
    functions = {name for name, thing in PUBLIC.items() if inspect.isfunction(thing) and not name.startswith("ood.dask.") and name.count(".") == 1 + name.startswith("ood.metrics.")}
    assert classes | functions | {"ood", "ood.metrics", "ood.Writer"} <= EXAMPLES.keys()


# Fitted without id_val, and on logits that are all right: what their warnings are for.
WARNING = {"ood.Fusion", "ood.Layers", "ood.TemperatureScaling"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if name in WARNING:
            warnings.simplefilter("ignore", ood.FitWarning)
        check_example(name)


def check_example(name: str) -> None:
    example = EXAMPLES[name]
    if name.startswith("ood.metrics."):
        example.globs.update(vars(ood.metrics))
    said: list[str] = []
    result = doctest.DocTestRunner().run(example, out=said.append)
    assert result.failed == 0, "".join(said)
    assert result.attempted == len(example.examples)
