"""Watches the owners' leases, and the store's write lock, for processes that are frozen rather than dead."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.errors import StoreError
from ..stores.processes import ProcessId
from ..stores.records import OwnerRecord
from .lease import RENEWALS, LeaseWatch
from .reaper import this_host

LOGGER = logging.getLogger("perdure.sentry")


class Sentry:
    """Tells of leases that expired. Time in which the store could not be written does not count against anybody: the
    sentry writes a lease of its own, and while that does not succeed no other one expires either.

    One case is different. A process that is stopped while it holds the store's write lock stops every writer, the
    sentry included. Then the lock itself says who holds it: if that is an owner of ours, and the same one at the same
    acquisition for a whole lease, it is killed, which frees the lock.
    """

    def __init__(
        self,
        store: CheckpointStore,
        name: str,
        lease: timedelta,
        expired: Callable[[OwnerRecord], Awaitable[None]],
        watches: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._period = lease.total_seconds() / RENEWALS
        self._lease = lease.total_seconds()
        self._watch = LeaseWatch(lease, timedelta(seconds=2 * self._period))
        self._own = OwnerRecord(
            owner=name, counter=0, host=this_host(), pid=os.getpid(), started=ProcessId.own().started
        )
        self._expired = expired
        self._watches = watches
        self._holder: tuple[Any, float] | None = None
        self._probe: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await asyncio.sleep(self._period)
            try:
                await self._look()
            except StoreError:
                self._watch.outage()
            except Exception:
                LOGGER.exception("a look at the leases failed; the next one counts anew")
                self._watch.outage()

    async def _look(self) -> None:
        if not await self._can_write():
            self._watch.outage()
            await self._look_at_lock()
            return
        self._holder = None
        leases = await asyncio.to_thread(self._store.owners)
        others = [lease for lease in leases if lease.owner != self._own.owner and self._watches(lease.owner)]
        for lease in self._watch.look(time.monotonic(), others):
            await self._expired(lease)

    async def _can_write(self) -> bool:
        """Whether the sentry's own lease could be written within a period. An attempt that hangs is left to itself."""
        if self._probe is None:
            self._own = replace(self._own, counter=self._own.counter + 1)
            self._probe = asyncio.create_task(asyncio.to_thread(self._store.renew, self._own))
        done, _ = await asyncio.wait({self._probe}, timeout=self._period)
        if not done:
            return False
        probe, self._probe = self._probe, None
        probe.result()
        return True

    async def _look_at_lock(self) -> None:
        holder = await asyncio.to_thread(self._store.lock_holder)
        now = time.monotonic()
        if holder is None or self._holder is None or self._holder[0] != holder:
            self._holder = (holder, now) if holder is not None else None
            return
        if now - self._holder[1] < self._lease:
            return
        for lease in await asyncio.to_thread(self._store.owners):
            if lease.pid == holder.pid and lease.owner != self._own.owner:
                self._holder = None
                await self._expired(lease)
