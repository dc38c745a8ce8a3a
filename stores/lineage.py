"""Whose commits make up a thread's history: its own and, before the fork, those of the threads it came from.

Commits never change, but whose they are does: before a thread is deleted its forks take over what they had of it. So
what was read from another thread than one's own counts only if the lineage still leads there afterwards: else that
thread may have been gone already, or another one of its id may have been there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from .base import CheckpointStore
from .chains import Key
from .errors import UnknownThread
from .records import ThreadRecord
from .segments import Row
from .transitions import check_whole, first_of

RowKey: TypeAlias = Key
"""A channel and a version of it; or `segment_reading.COMMIT` and a commit."""


class KnownRows(Protocol):
    """Rows of one thread that need not be read again: what makes up a version of a channel, from that version back to
    any that it came from; and (under `COMMIT`) what a commit tells of its checkpoint and tasks."""

    def get(self, key: RowKey) -> Sequence[Row] | None:
        """The rows, if they are known, oldest first."""
        ...

    def put(self, key: RowKey, rows: Sequence[Row]) -> None:
        """Remember a key's rows."""
        ...


class RowCache(Protocol):
    """Rows that were read before. Rows never change; which of them make up the newest state is never cached."""

    def of(self, thread: ThreadRecord) -> KnownRows:
        """Those of one thread, whose row was just read."""
        ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Commits `first..last` of a lineage, which are those of one thread. `last` None: to the end."""

    thread_id: str
    first: int
    last: int | None
    floor: int
    """The thread's floor when the reader first looked."""
    named: frozenset[int]
    known: KnownRows | None = None


def stretch_of(row: ThreadRecord, last: int | None) -> Stretch:
    """The stretch that ends with a thread's commit `last`."""
    return Stretch(row.thread_id, first_of(row), last, row.floor, frozenset(row.names.values()))


class Lineage:
    """The stretches of one thread's history, read when they are first asked for. Up to `record` if that is given, its
    row."""

    def __init__(
        self, store: CheckpointStore, thread_id: str, record: ThreadRecord | None, cache: RowCache | None
    ) -> None:
        self.record = record
        self.cached = cache is not None
        self._store = store
        self._thread_id = thread_id
        self._cache = cache
        self._rows: tuple[ThreadRecord, ...] = ()
        self._stretches: tuple[Stretch, ...] = ()

    def stretches(self) -> tuple[Stretch, ...]:
        """Newest first; the thread's own is the first of them. Raises `UnknownThread`, `ThreadHeld`."""
        if not self._stretches:
            self._rows = self._read()
            last: int | None = None
            found: list[Stretch] = []
            for row in self._rows:
                known = self._cache.of(row) if self._cache is not None else None
                found.append(replace(stretch_of(row, last), known=known))
                if row.origin is not None:
                    # A fork from before its origin's own fork takes nothing of that origin.
                    last = row.origin.seq if last is None else min(last, row.origin.seq)
            self._stretches = tuple(found)
        return self._stretches

    @property
    def origin(self) -> ThreadRecord | None:
        """The row of the thread that it was forked from, where that was read."""
        return self._rows[1] if len(self._rows) > 1 else None

    def moved(self) -> bool:
        """Whether the stretches are other threads' than they were when they were read. If so they are read anew."""
        if len(self._rows) < 2:
            return False
        before = _links(self._rows)
        names = [row.thread_id for row in self._rows]
        found = self._store.find(names)
        if _links([found[name] for name in names if name in found]) == before:
            return False  # asked for all at once, as nearly always nothing has moved
        self._refresh()
        now = self._read()
        if _links(now) == before:
            return False
        self._stretches = ()
        return True

    def forget_cache(self) -> None:
        """Read everything from the store from now on."""
        self._cache, self.cached = None, False
        self._stretches = tuple(replace(stretch, known=None) for stretch in self._stretches)

    def _read(self) -> tuple[ThreadRecord, ...]:
        before: tuple[object, ...] | None = None
        while True:
            rows = [self.record or self._store.thread(self._thread_id)]
            check_whole(rows[0], "what is there of its history is not all of it")
            try:
                while (origin := rows[-1].origin) is not None:
                    rows.append(self._store.thread(origin.thread_id))
                return tuple(rows)
            except UnknownThread:
                # Deleted since the row that refers to it was read; if that still does, it is really missing.
                if _links(rows) == before:
                    raise
                before = _links(rows)
                self._refresh()

    def _refresh(self) -> None:
        """Bring the row that was given to where its history is now; how far it goes stays as it was."""
        if self.record is None or self.record.origin is None:
            return  # there is nothing above that could go
        fresh = self._store.thread(self._thread_id)
        if fresh.created_at == self.record.created_at:
            self.record = replace(self.record, origin=fresh.origin, floor=fresh.floor, names=fresh.names)


def _links(rows: Sequence[ThreadRecord]) -> tuple[object, ...]:
    return tuple((row.thread_id, row.created_at, row.origin) for row in rows)
