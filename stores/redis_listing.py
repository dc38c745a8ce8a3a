"""Listings over all partitions: each keeps its own threads in order, here their orders are merged into one.

A thread's place in a listing is its number (the server's time when it was created) and its partition, which never
change; a cursor is the place of the last thread listed. So a thread that stays as it is comes exactly once, whatever
comes and goes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from .arguments import json_equal
from .operations import ThreadFilter
from .records import PARKED, ThreadRecord
from .redis_connections import Connections
from .redis_keys import Keys
from .redis_options import MOST_PARTITIONS
from .redis_records import Found, no_conditions, row_conditions

_DIGITS = 16
"""Of a number in an index."""
_MOST_AT_ONCE = 500
"""Entries asked for at once in one index."""
_MOST_ROWS = 4000
"""Rows looked at at once."""

_GONE = 1


class Entry(NamedTuple):
    """What an index says of a thread."""

    number: int
    partition: int
    thread_id: str
    graph: str = ""
    """Empty where the entry does not tell."""

    @property
    def place(self) -> int:
        return self.number * MOST_PARTITIONS + self.partition


class _Source:
    """One partition's threads of one kind, newest first, fetched piece by piece."""

    def __init__(self, partition: int, key: str, kind: str, value: str, below: int | None) -> None:
        self.partition = partition
        self.key = key
        self._prefix = f"{kind}\0{value}\0"
        # The colon sorts behind the digits.
        self._top = f"({self._prefix}{':' if below is None else self._bound(below)}"
        self.entries: list[Entry] = []
        """Fetched and not used yet, the next one last."""
        self.exhausted = False

    def _bound(self, below: int) -> str:
        number, partition = divmod(below, MOST_PARTITIONS)
        # A thread of this very number is below the place if its partition is.
        return _digits(number + (self.partition < partition))

    def command(self, count: int) -> tuple[str | int, ...]:
        return ("ZREVRANGEBYLEX", self.key, self._top, f"[{self._prefix}", "LIMIT", 0, count)

    def fetched(self, members: Sequence[bytes], count: int) -> None:
        start = len(self._prefix.encode())
        found = [_entry(self.partition, member, start) for member in members]
        self.exhausted = len(found) < count
        if found:
            self._top = f"({self._prefix}{_digits(found[-1].number)}"
        self.entries = found[::-1]


def _entry(partition: int, raw: bytes, start: int) -> Entry:
    thread_id, _, graph = raw[start + _DIGITS :].decode().partition("\0")
    return Entry(int(raw[start : start + _DIGITS]), partition, thread_id, graph)


def _digits(number: int) -> str:
    return f"{number:0{_DIGITS}d}"


class Listing:
    """Lists the threads of one store."""

    def __init__(self, connections: Connections, keys: Keys, where: str) -> None:
        self._connections = connections
        self._keys = keys
        self._where = where

    def page(self, where: ThreadFilter, limit: int, below: int | None) -> tuple[list[ThreadRecord], int | None]:
        """The newest threads that match, below a place; and the place of the last one if there are more."""
        found: list[tuple[int, ThreadRecord]] = []
        seen: set[int] = set()
        sources = self._sources(where, below)
        wanted = limit + 1
        for entries in self._merged(sources, wanted):
            for entry, record in self._matching(entries, where):
                # One whose status changes meanwhile may be met in two indexes.
                if entry.place not in seen:
                    seen.add(entry.place)
                    found.append((entry.place, record))
            if len(found) >= wanted:
                break
        return [record for _, record in found[:limit]], found[limit - 1][0] if len(found) > limit else None

    def due(self, before: float, limit: int) -> list[ThreadRecord]:
        """Parked threads whose time has come, the longest due first."""
        keys = [self._keys.shared(partition, "due") for partition in range(self._keys.partitions)]
        while True:
            calls = [
                self._connections.plain(
                    "ZRANGEBYSCORE", key, "-inf", repr(float(before)), "WITHSCORES", "LIMIT", 0, limit
                )
                for key in keys
            ]
            scored: list[tuple[float, Entry]] = []
            for partition, answer in enumerate(self._connections.run(calls)):
                pairs = zip(answer[::2], answer[1::2], strict=True)
                scored += [(float(score), _entry(partition, raw, 0)) for raw, score in pairs]
            scored.sort(key=lambda each: (each[0], each[1].place))
            entries = [entry for _, entry in scored[:limit]]
            rows = self.rows(entries, no_conditions())
            gone = [entry for entry, row in zip(entries, rows, strict=True) if not isinstance(row, Found)]
            if not gone:
                return [
                    row.record
                    for row in rows
                    if isinstance(row, Found) and row.record.status in PARKED and 0 < row.record.wake_at <= before
                ]
            self.sweep(gone)

    def rows(self, entries: Sequence[Entry], conditions: Sequence[str | bytes | int]) -> list[Found | bool]:
        """For each entry its thread's row; False if it does not match, True if the thread is gone."""
        parts: dict[int, list[int]] = {}
        for at, entry in enumerate(entries):
            parts.setdefault(entry.partition, []).append(at)
        calls = [
            self._connections.script(
                "rows",
                [self._keys.row(entries[at].thread_id) for at in places],
                *conditions,
                *(_digits(entries[at].number) for at in places),
            )
            for places in parts.values()
        ]
        rows: list[Found | bool] = [False] * len(entries)
        for places, answers in zip(parts.values(), self._connections.run(calls), strict=True):
            for at, answer in zip(places, answers, strict=True):
                rows[at] = answer == _GONE if isinstance(answer, int) else Found(answer, self._where)
        return rows

    def entries(self, partition: int) -> Iterator[list[Entry]]:
        """All threads of a partition, in pieces."""
        source = _Source(partition, self._keys.shared(partition, "index"), "n", "", None)
        while not source.exhausted:
            command = source.command(_MOST_AT_ONCE)
            source.fetched(self._connections.ask(self._connections.plain(*command)), _MOST_AT_ONCE)
            if source.entries:
                yield source.entries

    def sweep(self, entries: Sequence[Entry]) -> None:
        """Take threads that expired out of their partitions' indexes: all of it where the entry tells the graph, as
        those of `entries` do."""
        parts: dict[int, list[Entry]] = {}
        for entry in entries:
            parts.setdefault(entry.partition, []).append(entry)
        self._connections.run(
            [
                self._connections.script(
                    "sweep",
                    [
                        *(self._keys.shared(partition, kind) for kind in ("index", "due")),
                        *(self._keys.row(entry.thread_id) for entry in each),
                    ],
                    *(part for entry in each for part in (_digits(entry.number), entry.thread_id, entry.graph)),
                )
                for partition, each in parts.items()
            ],
            writes=True,
        )

    def _sources(self, where: ThreadFilter, below: int | None) -> list[_Source]:
        if where.statuses is not None:
            kinds = [("s", str(status)) for status in sorted(where.statuses)]
        else:
            kinds = [("n", "")] if where.graph is None else [("g", where.graph)]
        return [
            _Source(partition, self._keys.shared(partition, "index"), kind, value, below)
            for partition in range(self._keys.partitions)
            for kind, value in kinds
        ]

    def _merged(self, sources: Sequence[_Source], wanted: int) -> Iterator[list[Entry]]:
        """The entries of all sources, newest first, in pieces."""
        count = min(_MOST_AT_ONCE, 2 * wanted // max(1, len(sources)) + 8)
        most = wanted
        while True:
            empty = [source for source in sources if not source.entries and not source.exhausted]
            if empty:
                calls = [self._connections.plain(*source.command(count)) for source in empty]
                for source, members in zip(empty, self._connections.run(calls), strict=True):
                    source.fetched(members, count)
                count = min(_MOST_AT_ONCE, 2 * count)
            merged = _newest(sources, most)
            if not merged:
                return
            yield merged
            most = min(_MOST_ROWS, 2 * most)

    def _matching(self, entries: Sequence[Entry], where: ThreadFilter) -> Iterator[tuple[Entry, ThreadRecord]]:
        rows = self.rows(entries, row_conditions(where))
        gone = []
        for entry, row in zip(entries, rows, strict=True):
            if isinstance(row, Found):
                if _matches(row.record, where):
                    yield entry, row.record
            elif row:
                gone.append(entry)
        if gone:
            self.sweep(gone)


def _newest(sources: Sequence[_Source], most: int) -> list[Entry]:
    """At most so many of what was fetched, newest first: as far as every source that is not exhausted has some."""
    heads = [(-source.entries[-1].place, at) for at, source in enumerate(sources) if source.entries]
    heapify(heads)
    merged: list[Entry] = []
    while heads and len(merged) < most:
        _, at = heappop(heads)
        source = sources[at]
        merged.append(source.entries.pop())
        if source.entries:
            heappush(heads, (-source.entries[-1].place, at))
        elif not source.exhausted:
            break
    return merged


def _matches(row: ThreadRecord, where: ThreadFilter) -> bool:
    """What the script `rows` leaves to Python."""
    if where.tag is not None and where.tag not in row.tags:
        return False
    return all(key in row.metadata and json_equal(row.metadata[key], value) for key, value in where.metadata.items())
