"""Services for tests: each ends with all its processes when its test or module does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from perdure import Client, HeadOptions
from perdure.cluster.head import ensure_head
from perdure.cluster.join import joined
from tests.actors.disks import SmallDisk, small_disk
from tests.actors.services import service

Serve: TypeAlias = Callable[..., Client]


@pytest.fixture(scope="session")
def member(head: HeadOptions) -> Iterator[HeadOptions]:
    """The head, which this process stays a member of for the whole session: joining takes longer than most tests."""
    leave = joined(ensure_head(head))
    yield head
    leave()


@pytest.fixture(scope="module")
def client(member: HeadOptions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service that a module's tests share."""
    with service(member, tmp_path_factory.mktemp("store") / "shared.db") as found:
        yield found


@pytest.fixture
def serve(member: HeadOptions, tmp_path: Path) -> Iterator[Serve]:
    """Starts a service of the test's own: `serve(lease=...)`, with the options of `connect`. Without spare actors: a
    test with one thread would start a process for nothing."""
    with ExitStack() as stack:

        def start(name: str = "own.db", **options: Any) -> Client:
            return stack.enter_context(service(member, tmp_path / name, **{"spares": 0, **options}))

        yield start


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where nodes note what they do."""
    place = tmp_path / "notes"
    place.mkdir()
    return str(place)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk. To be asked for before `serve`: the service on it has to end first."""
    place = tmp_path / "disk"
    place.mkdir()
    with small_disk(place) as made:
        yield made
