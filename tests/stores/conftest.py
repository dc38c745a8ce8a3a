"""Each test that asks for `backend` runs against every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.stores.base import CheckpointStore
from tests.stores.backends import BACKENDS, Backend, sqlite_backend


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    backend = BACKENDS[request.param](request)
    yield backend
    backend.close()


@pytest.fixture
def store(backend: Backend) -> CheckpointStore:
    return backend.open()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Backend]:
    backend = sqlite_backend(tmp_path)
    yield backend
    backend.close()
