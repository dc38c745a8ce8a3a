"""One operation of a store fails, at every point of a thread's life: its state is that of a run without faults, what
was acknowledged is there, and nothing is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.stores.base import CheckpointStore
from tests.faults.failing import HOWS, FailingStore, Point
from tests.faults.lives import live
from tests.stores.backends import BACKENDS, Backend

SPREAD = 12
"""Points, where all of them would take too long."""


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend = BACKENDS[request.param](request)
    yield backend
    backend.close()


def operations(store: CheckpointStore, folder: Path, durability: str, point: Point | None = None) -> FailingStore:
    """Live a life; what the store saw of it."""
    name = f"{durability} {point.how} {point.number}" if point else f"{durability} without faults"
    failing = FailingStore(store, point)
    live(failing, store, folder / f"acks of {name}", name, durability)
    return failing


def test_a_spread_of_operations_fails(backend: Backend, tmp_path: Path) -> None:
    store = backend.open()
    calls = {durability: operations(store, tmp_path, durability).calls for durability in ("sync", "async")}
    struck = 0
    for i in range(SPREAD):
        durability = "async" if i % 3 == 2 else "sync"
        point = Point(1 + round(i * (calls[durability] - 1) / (SPREAD - 1)), HOWS[i % len(HOWS)])
        struck += operations(store, tmp_path, durability, point).struck
    # With async durability commits are grouped as they come: their number is not always the same.
    assert struck >= SPREAD - 3


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_every_operation_fails(backend: Backend, tmp_path: Path, durability: str, how: str) -> None:
    store = backend.open()
    calls = operations(store, tmp_path, durability).calls
    struck = [operations(store, tmp_path, durability, Point(number, how)).struck for number in range(1, calls + 1)]
    assert sum(struck) > 0.8 * calls
