"""Dask's modules, in one place: they are optional, and no types are asked of them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

try:
    array: Any = import_module("dask.array")
    delayed: Any = import_module("dask").delayed
    distributed: Any = import_module("distributed")
except ImportError as error:
    raise ImportError("ood.dask needs dask and distributed: pip install 'libood[dask]'") from error
