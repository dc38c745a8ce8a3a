"""Rows that were read or written once and need not be read again."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from threading import Lock

from cachetools import LRUCache

from ..stores.columns import LazyRows, size_of
from ..stores.lineage import KnownRows, RowKey
from ..stores.records import ThreadRecord
from ..stores.segment_reading import COMMIT
from ..stores.segments import Row
from ..stores.strands import chain_of
from .errors import InputError

_ENTRY = 336
"""Bytes that an entry takes beside its rows, about."""
_THREADS = 10_000
"""Threads that are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """How much of what was read is kept in memory. Raises `InputError`."""

    max_bytes: int = 64 * 1024 * 1024
    """Encoded bytes at most, of all threads together; 0 keeps nothing."""
    max_entries: int = 100_000
    """Channels (what makes up a version of one), and commits, at most."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_entries"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"CacheOptions: {name} is {value!r}; give a whole number, 0 to keep nothing")


@dataclass(frozen=True, slots=True)
class _Incarnation:
    """A thread as it was last seen. One that was deleted and made anew, or put back to an older state from a backup, is
    another thread under the same id."""

    number: int
    created_at: float
    epoch: int
    seq: int


class ReadCache:
    """The least recently used rows of one store's threads are dropped first. Safe to use from several threads.

    What is kept is what the store has: encoded rows, which nobody can change, and which never change in the store. To
    decode them for each reader is also cheaper than to copy a decoded value. Never kept is which checkpoint is the
    newest: that is asked of the store each time.
    """

    def __init__(self, options: CacheOptions | None = None) -> None:
        self.options = options or CacheOptions()
        self._rows: LRUCache[tuple[int, RowKey], Sequence[Row]] = LRUCache(self.options.max_bytes, _size)
        self._newest: dict[tuple[int, str], list[int]] = {}
        """By channel: the newest version of each of its entries, rising. Some may be gone since."""
        self._threads: LRUCache[str, _Incarnation] = LRUCache(_THREADS)
        self._numbers = count()
        self._lock = Lock()

    def of(self, thread: ThreadRecord) -> KnownRows:
        """What is known of a thread, whose row was just read."""
        with self._lock:
            before = self._threads.get(thread.thread_id)
            same = before is not None and before.created_at == thread.created_at
            same = same and before.epoch <= thread.epoch and before.seq <= thread.seq  # type: ignore[union-attr]
            number = before.number if before is not None and same else next(self._numbers)
            seen = _Incarnation(number, thread.created_at, thread.epoch, thread.seq)
            self._threads[thread.thread_id] = seen
        return _Known(self, number)

    @property
    def bytes(self) -> int:
        """What is kept, about."""
        return int(self._rows.currsize)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, number: int, key: RowKey) -> Sequence[Row] | None:
        """Rows of a thread that was given this number."""
        with self._lock:
            rows = self._rows.get((number, key))
            return rows if rows is not None or key[0] == COMMIT else self._part(number, *key)

    def keep(self, number: int, key: RowKey, rows: Sequence[Row]) -> None:
        """Keep rows, unless they are too large."""
        if _size(rows) > self.options.max_bytes:
            return
        with self._lock:
            if key[0] != COMMIT and (number, key) not in self._rows:
                insort(self._newest.setdefault((number, key[0]), []), key[1])
            self._rows[number, key] = rows
            while len(self._rows) > self.options.max_entries:
                self._rows.popitem()

    def _part(self, number: int, channel: str, version: int) -> Sequence[Row] | None:
        """The rows of a version that a newer one came from."""
        newest = self._newest.get((number, channel), [])
        place = bisect_left(newest, version)
        while place < len(newest):
            rows = self._rows.get((number, (channel, newest[place])))
            if rows is not None:
                return chain_of(rows).upto(version)
            del newest[place]
        if not newest:
            self._newest.pop((number, channel), None)
        return None


class _Known:
    """The rows of one incarnation of a thread."""

    __slots__ = ("_cache", "_number")

    def __init__(self, cache: ReadCache, number: int) -> None:
        self._cache = cache
        self._number = number

    def get(self, key: RowKey) -> Sequence[Row] | None:
        return self._cache.take(self._number, key)

    def put(self, key: RowKey, rows: Sequence[Row]) -> None:
        self._cache.keep(self._number, key, rows if isinstance(rows, LazyRows) else tuple(rows))


def _size(rows: Sequence[Row]) -> int:
    return _ENTRY + size_of(rows)
