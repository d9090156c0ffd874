"""Tasks of a cluster: what they are asked for with, and errors that say which rows they are about."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import _ood
from ._dask import distributed


def same(value: Any) -> Any:
    return value


def compute(client: Any, tasks: Any, progress: bool) -> Any:
    """Futures of these tasks; with a bar in the terminal, when they are done."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")  # fitted state goes to one worker once
        futures = client.compute(tasks)
    if progress:
        distributed.progress(futures, notebook=False)
    return futures


def finished(futures: Sequence[Any], places: Sequence[str]) -> None:
    """Waits for them. The first error is raised, with the place of its task, and the others are released: not cancelled,
    as they may be what other tasks depend on, which takes Dask's scheduler (2026.8) to lose the client."""
    place_of = {future.key: place for future, place in zip(futures, places)}
    try:
        for future in distributed.as_completed(futures):
            if future.status == "error" and (error := future.exception()) is not None:
                place = place_of[future.key]
                raise error if place in str(error) else with_place(error, place)
    except BaseException:
        for future in futures:
            future.release()
        raise


@contextmanager
def briefly() -> Iterator[list[Any]]:
    """Releases the futures that are put into the list. Not left to their ends: an error holds them by its traceback, and Dask's
    client the error."""
    futures: list[Any] = []
    try:
        yield futures
    finally:
        for future in futures:
            future.release()


def failed(client: Any, tasks: Sequence[Any], places: Sequence[str]) -> str | None:
    """The place of the task that has failed, or what that needs. To be told of tasks, one has to ask for them again."""
    with briefly() as futures:
        futures += compute(client, list(tasks), False)
        try:
            for future in distributed.as_completed(futures, timeout=10):
                if future.status == "error":
                    return next(place for place, of in zip(places, futures) if of.key == future.key)
        except distributed.TimeoutError:  # it was another task
            pass
    return None


@contextmanager
def located(place: str) -> Iterator[None]:
    """Errors about rows say which ones these are."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        if place in str(error):
            raise
        raise with_place(error, place) from error


def with_place(error: BaseException, place: str) -> BaseException:
    """An error of the same kind, where it is made of a text, that says the place."""
    kind = type(error)
    if kind in (ValueError, TypeError, OSError, RuntimeError, MemoryError, _ood.DomainError):
        return kind(f"{place}: {error}")
    if isinstance(error, (OSError, ValueError)):
        return (OSError if isinstance(error, OSError) else ValueError)(f"{place}: {error!r}")
    return RuntimeError(f"{place}: {kind.__name__}: {error}")
