"""Wakes the service's sleeping threads at their time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ..runtime.clock import Clock
from ..runtime.waking import TIMED, wake_message
from ..stores.base import CheckpointStore
from ..stores.errors import Refused, StoreError, UnknownThread
from ..stores.records import SERVICE, ThreadRecord
from .chores import Chores
from .upcoming import LEAD, Stage, Timer, Upcoming

MOST = 2000
"""Timers that are read ahead at most."""
AT_ONCE = 16
"""Threads that are woken side by side."""
FAR = 1e12
"""A time that no timer is beyond."""


class Wakers(Protocol):
    """What the timers need of the service."""

    def act(self) -> None:
        """What is wanted has changed."""

    def preload(self, row: ThreadRecord) -> None:
        """A thread is about to wake: let the process that may get it read its state."""

    async def notify(self, thread_id: str) -> None:
        """A thread was woken."""


class Timers:
    """Reads in the store which threads are due before the next look, and wakes each to the millisecond.

    It remembers nothing that the store does not say: a supervisor that comes after it finds the same threads due. Two
    that wake a thread deliver the same message.
    """

    def __init__(
        self,
        store: CheckpointStore,
        clock: Clock,
        look: float,
        chores: Chores,
        wakers: Wakers,
        ours: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._horizon = 2 * look + LEAD[Stage.PREPARE]
        self._chores = chores
        self._wakers = wakers
        self._ours = ours
        self._upcoming = Upcoming()
        self._waking: set[str] = set()
        self._changed = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._foreign = 0
        """How many threads are due that are not ours to wake; they come first in every reading."""

    async def look(self) -> None:
        """Note what is due before long. Raises `StoreError`."""
        before = max(0.0, self._clock.time() + self._horizon)
        rows = await asyncio.to_thread(self._store.due, before, limit=self._foreign + MOST)
        ours = [row for row in rows if self._wakes(row)]
        self._foreign = len(rows) - len(ours)
        for row in ours:
            self.note(row)

    async def any(self) -> bool:
        """Whether any thread of the service has a timer, be it in years. Raises `StoreError`."""
        if len(self._upcoming) or self._waking:
            return True
        limit = self._foreign + 100
        while True:
            rows = await asyncio.to_thread(self._store.due, FAR, limit=limit)
            if any(self._wakes(row) for row in rows):
                return True
            if len(rows) < limit:
                return False
            limit *= 4

    def note(self, row: ThreadRecord) -> None:
        """A thread was seen; if it sleeps, and not for long, it is woken in time without having been looked for."""
        wall = self._clock.time()
        if not self._wakes(row) or row.wake_at > wall + self._horizon or row.thread_id in self._waking:
            return
        self._upcoming.note(row, wall, time.monotonic())
        self._changed.set()

    def graphs(self) -> Counter[str]:
        """See `Upcoming.graphs`."""
        return self._upcoming.graphs()

    async def run(self) -> None:
        """Wake for ever."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            for timer, stage in self._upcoming.take(now):
                if stage is Stage.WAKE:
                    self._waking.add(timer.row.thread_id)
                    self._chores.spawn(self._wake(timer))
                elif stage is Stage.PRELOAD:
                    self._wakers.preload(timer.row)
                else:
                    self._wakers.act()
            try:
                await asyncio.wait_for(self._changed.wait(), self._upcoming.pause(time.monotonic()))
            except TimeoutError:
                continue

    async def _wake(self, timer: Timer) -> None:
        row = timer.row
        message, expect = wake_message(row, self._clock.time())
        try:
            async with self._turns:
                await asyncio.to_thread(self._store.deliver, row.thread_id, message, expect)
        except (Refused, UnknownThread):
            pass  # it was woken by something else, or is gone
        except StoreError:
            return  # away: it is still due when the store is looked through again
        finally:
            self._waking.discard(row.thread_id)
        await self._wakers.notify(row.thread_id)

    def _wakes(self, row: ThreadRecord) -> bool:
        return row.driver == SERVICE and row.status in TIMED and row.wake_at > 0 and self._ours(row.thread_id)
