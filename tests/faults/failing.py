"""A store of which one operation fails: before it, after it, or so late that nobody waits for it any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from perdure.stores.base import CheckpointStore
from perdure.stores.errors import StoreError, StoreUnavailable
from tests.sim.faults import Delegating, FaultyStore

T = TypeVar("T")

HOWS = ("before", "after", "slow", "late")
"""`late`: it fails at once, and is done when the next attempt has most likely been made."""

SLOW, LATE = 0.03, 0.12
"""Seconds; an owner tries again after 0.05 to 0.1."""


@dataclass(frozen=True, slots=True)
class Point:
    """What happens at which operation, counted from 1."""

    number: int
    how: str


class FailingStore(FaultyStore):
    """Another store, one operation of which fails. Of the simulator's it has the operations that may."""

    def __init__(self, inner: CheckpointStore, point: Point | None = None) -> None:
        Delegating.__init__(self, inner)
        self.calls = 0
        self._point = point
        self._lock = threading.Lock()
        self._late: list[threading.Thread] = []

    @property
    def struck(self) -> bool:
        """Whether the operation that was to fail was made."""
        return self._point is not None and self.calls >= self._point.number

    def close(self) -> None:
        """Wait for what comes late. The other store stays open."""
        for thread in self._late:
            thread.join()

    def _call(self, call: Callable[[], T], *, writes: bool = False) -> T:
        with self._lock:
            self.calls += 1
            how = self._point.how if self._point is not None and self.calls == self._point.number else ""
        if how == "slow":
            time.sleep(SLOW)
        elif how == "late" and writes:
            self._late.append(threading.Thread(target=_later, args=(call,)))
            self._late[-1].start()
        if how in ("before", "late"):
            raise StoreUnavailable(f"the test lets operation {self.calls} fail")
        result = call()
        if how == "after":
            raise StoreUnavailable(f"the test loses the answer to operation {self.calls}")
        return result


def _later(call: Callable[[], object]) -> None:
    time.sleep(LATE)
    try:
        call()
    except StoreError:
        return  # it came too late
