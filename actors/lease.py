"""Leases: how an owner shows that it lives, and how a supervisor sees that one does not.

A lease is a counter in the store. Nobody compares clocks of two machines: the supervisor counts, on its own monotonic
clock, for how long it has looked at a counter that did not move.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from ..runtime.ports import Gate
from ..stores.base import CheckpointStore
from ..stores.errors import StoreError
from ..stores.records import OwnerRecord

RENEWALS = 6
"""Renewals in the time of one lease: a process that is silent for three of them still has half of it left."""


class LeaseKeeper:
    """Renews one owner's lease in the background, and closes the gate of its threads while it cannot."""

    def __init__(
        self,
        store: CheckpointStore,
        owner: OwnerRecord,
        lease: timedelta,
        threads: Callable[[], tuple[tuple[str, int], ...]],
    ) -> None:
        self.gate = Gate()
        """Closed while the lease could not be renewed: what an owner cannot announce it must not start."""
        self._store = store
        self._record = owner
        self._period = lease.total_seconds() / RENEWALS
        self._threads = threads
        self._stopped = threading.Event()
        self._opened: Callable[[], None] = lambda: None
        self._turn = threading.Lock()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="perdure-lease", daemon=True)
        self._watch = threading.Thread(target=self._watching, name="perdure-lease-watch", daemon=True)

    def start(self, opened: Callable[[], None]) -> None:
        """Write the first lease and begin renewing; `opened` is called whenever the gate opens again.

        While the first cannot be written, the gate is closed.
        """
        self._opened = opened
        try:
            self._renew()
        except StoreError:
            self.gate.open = False
        self._thread.start()
        self._watch.start()

    def stop(self) -> None:
        """End renewing and take the lease back, if the store answers."""
        self._stopped.set()
        self._thread.join()
        self._watch.join()
        try:
            self._store.forget(self._record.owner)
        except StoreError:
            return  # the supervisor forgets owners whose process is gone

    def _serve(self) -> None:
        while not self._stopped.wait(self._period):
            try:
                self._renew()
            except Exception:  # noqa: BLE001 — whatever it is, the lease was not renewed
                continue
            with self._turn:
                self._renewed = time.monotonic()
                reopened, self.gate.open = not self.gate.open, True
            if reopened:
                self._opened()

    def _watching(self) -> None:
        """Beside the thread that renews: a server that is frozen or cut off answers nothing, not even an error."""
        while not self._stopped.wait(self._period / 2):
            with self._turn:
                if time.monotonic() - self._renewed > self._period * RENEWALS / 2:
                    self.gate.open = False

    def _renew(self) -> None:
        self._record = replace(self._record, counter=self._record.counter + 1, threads=self._threads())
        self._store.renew(self._record)


class LeaseReading:
    """The leases as they are when the first is asked for: one reading for a look at many threads, whose rows were read
    before it."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._leases: dict[str, OwnerRecord] | None = None

    async def of(self, owner: str) -> OwnerRecord | None:
        """An owner's lease, if it has one. Raises `StoreError`."""
        if self._leases is None:
            self._leases = {lease.owner: lease for lease in await asyncio.to_thread(self._store.owners)}
        return self._leases.get(owner)

    def drop(self, owner: str) -> None:
        """An owner was found to be gone: its other threads need not look again."""
        if self._leases is not None:
            self._leases.pop(owner, None)


class LeaseWatch:
    """Decides which leases have expired. Pure: fed with what was read and when."""

    def __init__(self, lease: timedelta, longest_gap: timedelta) -> None:
        self._lease = lease.total_seconds()
        self._gap = longest_gap.total_seconds()
        self._seen: dict[str, tuple[int, float]] = {}
        self._last: float | None = None

    def look(self, now: float, leases: Iterable[OwnerRecord]) -> list[OwnerRecord]:
        """Take in a reading at `now` (monotonic seconds) and return the leases that have expired.

        Time counts only from one good reading to the next, and never more than `longest_gap` of it: an outage of the
        store, or a supervisor that was itself stopped, proves nothing about the owners.
        """
        passed = 0.0 if self._last is None else min(now - self._last, self._gap)
        self._last = now
        expired = []
        fresh: dict[str, tuple[int, float]] = {}
        for lease in leases:
            counter, still = self._seen.get(lease.owner, (-1, 0.0))
            still = still + passed if lease.counter == counter else 0.0
            fresh[lease.owner] = (lease.counter, still)
            if still >= self._lease:
                expired.append(lease)
        self._seen = fresh
        return expired

    def outage(self) -> None:
        """The store did not answer: the time until the next reading does not count."""
        self._last = None
