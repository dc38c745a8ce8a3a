"""The stores under the saver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.saver import PerdureSaver

STORES = ["memory", "sqlite", "postgres", "redis", "redis_cluster"]


def url_of(name: str, request: pytest.FixtureRequest) -> str:
    """An empty store's URL."""
    if name == "memory":
        return "memory://"
    if name == "sqlite":
        folder: Path = request.getfixturevalue("tmp_path")
        return f"sqlite:///{folder}/store.db"
    return str(request.getfixturevalue(f"{name}_url"))


@pytest.fixture(params=STORES)
def any_url(request: pytest.FixtureRequest) -> str:
    """Each of the stores."""
    return url_of(request.param, request)


@pytest.fixture
def any_saver(any_url: str) -> Iterator[PerdureSaver]:
    with PerdureSaver(any_url) as saver:
        yield saver


@pytest.fixture
def saver() -> Iterator[PerdureSaver]:
    with PerdureSaver("memory://") as saver:
        yield saver


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"
