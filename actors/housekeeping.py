"""Housekeeping of a service's store, in the background: retention, compaction, deletion of threads long ended.

It has nothing to remember: what is to be done, the rows of the threads say. It works in small transactions, rests
longer than it works, and stands back while a thread recovers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from ..runtime.clock import Clock
from ..runtime.meaning import RuntimeMeaning
from ..stores.base import CheckpointStore
from ..stores.errors import StoreError
from ..stores.operations import ThreadFilter
from ..stores.records import ENDED, PARKED
from ..stores.tidying import Progress, Tidier

LOGGER = logging.getLogger("perdure.housekeeping")
MANY, FEW = 512, 32
"""Commits that are worth a pass: of a thread that runs, and of one that may not come to more."""
_ROUNDS = (ThreadFilter(untidied=MANY), ThreadFilter(untidied=FEW, statuses=ENDED | PARKED))
_REST = 3.0
"""How much longer than a transaction took to rest after it."""
_LONGEST_REST = 1.0
_STANDS_BACK = 5.0
"""Seconds that it stands back at most; a cluster in which threads crash all the time needs housekeeping too."""
_LOOK = 0.05
_AGES = timedelta(hours=1)
"""How often all threads are looked at for what time alone has made due, unless a retention is shorter."""
_PAGE = 200


class Housekeeper:
    """Tidies the threads of a store for as long as the service runs."""

    def __init__(
        self, store: CheckpointStore, clock: Clock, interval: timedelta, recovering: Callable[[], bool]
    ) -> None:
        self._store = store
        self._clock = clock
        self._interval = interval.total_seconds()
        self._recovering = recovering
        self._aged = time.monotonic()
        self._failed: dict[str, int] = {}
        """Threads whose history does not decode, and how far they were: looked at again when they have gone on."""

    async def run(self) -> None:
        """Work for ever."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.round()
            except StoreError as error:
                LOGGER.info("housekeeping waits for the store: %s", error)
            except Exception:  # threads must run on, whatever goes wrong here
                LOGGER.exception("housekeeping broke off; it tries again")

    async def round(self) -> Progress:
        """Do all that is due now."""
        tidier = await asyncio.to_thread(Tidier.of, self._store, RuntimeMeaning())
        rounds = list(_ROUNDS)
        if self._ages_due(tidier):
            self._aged = time.monotonic()
            rounds.append(ThreadFilter())
        total = Progress()
        for where in rounds:
            async for thread_id, seq in self._threads(where):
                if self._failed.get(thread_id) != seq:
                    total += await self._tidy(tidier, thread_id, seq)
        return total

    def _ages_due(self, tidier: Tidier) -> bool:
        spans = (tidier.retention.keep_for, tidier.retention.delete_after, _AGES)
        shortest = min(span.total_seconds() for span in spans if span is not None)
        return time.monotonic() - self._aged >= max(shortest / 4, self._interval)

    async def _threads(self, where: ThreadFilter) -> AsyncIterator[tuple[str, int]]:
        cursor = None
        while True:
            page = await asyncio.to_thread(self._store.threads, where, limit=_PAGE, cursor=cursor)
            for row in page.threads:
                yield row.thread_id, row.seq
            cursor = page.cursor
            if cursor is None:
                return

    async def _tidy(self, tidier: Tidier, thread_id: str, seq: int) -> Progress:
        total, failed = Progress(), list[tuple[str, str]]()
        steps = tidier.guarded(thread_id, self._clock.time(), failed)
        while True:
            await self._stand_back()
            begun = time.monotonic()
            step = await asyncio.to_thread(next, steps, None)
            if step is None:
                break
            total += step
            await asyncio.sleep(min(_REST * (time.monotonic() - begun), _LONGEST_REST))
        for _, why in failed:
            self._failed[thread_id] = seq
            LOGGER.warning("thread %r is left as it is: %s", thread_id, why)
        return total

    async def _stand_back(self) -> None:
        for _ in range(int(_STANDS_BACK / _LOOK)):
            if not self._recovering():
                return
            await asyncio.sleep(_LOOK)
