"""The stores on which the engine's tests run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure import CheckpointStore, open_store
from perdure.stores.memory import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    opened = MemoryStore() if request.param == "memory" else open_store(f"sqlite:///{tmp_path}/engine.db")
    with opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[CheckpointStore]:
    with open_store(f"sqlite:///{tmp_path}/engine.db") as opened:
        yield opened
