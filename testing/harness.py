"""What the suite needs of a store's author: how to open the store, and how to look into it from outside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import pytest

from ..stores.base import CheckpointStore


class Harness(ABC):
    """One empty store under test."""

    shared: bool = True
    """Whether opening it again gives the same store; False for one that lives in its object, as in memory."""

    def __init__(self) -> None:
        self._opened: list[CheckpointStore] = []

    @abstractmethod
    def connect(self) -> CheckpointStore:
        """Open the store once more, as another process would."""

    @abstractmethod
    def count(self, store: CheckpointStore, thread_id: str) -> dict[str, int]:
        """How many records are kept for a thread: `threads` (1 or 0), `runs`, `messages`, `segments`.

        Counted past the store, in the raw database, so that a store is not believed what it says of itself. To be
        asserted here as well: nothing is left that belongs to no thread.
        """

    @abstractmethod
    def damage(self, store: CheckpointStore, thread_id: str, what: str) -> None:
        """Flip the lowest bit of the last byte of a payload in the raw database: that of the thread's oldest `segment`,
        its first `message`, or the error of its first `run`; for `graph` the body of the graph with key `thread_id`."""

    def open(self) -> CheckpointStore:
        """A store that is closed at the end of the test; where it is not shared always the same."""
        if self.shared or not self._opened:
            self._opened.append(self.connect())
        return self._opened[-1]

    def close(self) -> None:
        """Close all that were opened. Override it to also remove what is left, after calling this."""
        for store in self._opened:
            store.close()


class StoreSuite:
    """A theme's tests. They take the store from the fixture `store` and the raw look from `harness`."""

    listed: ClassVar[int] = 10_000
    """How many threads are listed. For a store in development; a finished one is held to the whole number."""

    @pytest.fixture
    def harness(self) -> Harness:
        """To be overridden with a fixture that gives a harness of an empty store."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `harness`; see perdure.testing")

    @pytest.fixture
    def store(self, harness: Harness) -> Iterator[CheckpointStore]:
        yield harness.open()
        harness.close()
