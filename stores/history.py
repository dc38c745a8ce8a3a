"""Reads a thread's history: its own commits and, before the fork, those of the threads it came from.

Segments never change once they are written, so a reader that races with a writer sees what was there when it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .base import CheckpointStore
from .errors import Corrupt, UnknownCheckpoint
from .records import Segment
from .segments import Kind, Row

_VALUES = frozenset({Kind.VALUE, Kind.DELTA, Kind.SNAPSHOT})
_PENDING = frozenset({Kind.RESULT, Kind.INTERRUPT, Kind.ANSWER, Kind.PASS, Kind.OPTIONS})
_FEWEST, _MOST = 4, 256
"""Segments fetched at a time: few where the needed ones lie apart, many where they lie side by side."""

_Key = tuple[str, int]
"""A channel and a version of it."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Commits `first..last` of a lineage, which are those of one thread. `last` None: to the end."""

    thread_id: str
    first: int
    last: int | None


class HistoryReader:
    """The history of one thread. Raises `UnknownThread` with the first call if there is none."""

    def __init__(self, store: CheckpointStore, thread_id: str) -> None:
        self.store = store
        self.thread_id = thread_id
        self._lineage: tuple[_Stretch, ...] = ()

    def checkpoint(self, seq: int) -> tuple[str, Row]:
        """The CHECKPOINT row at exactly `seq`, and the thread that wrote it. Raises `UnknownCheckpoint`."""
        stretch = self._stretch(seq)
        if stretch is not None:
            for row in _rows(self.store.segments(stretch.thread_id, first=seq, last=seq)):
                if row.kind == Kind.CHECKPOINT and row.checkpoint == seq:
                    return stretch.thread_id, row
        raise UnknownCheckpoint(self.thread_id, seq)

    def checkpoints(self, *, before: int | None = None, limit: int | None = None) -> Iterator[tuple[str, Row]]:
        """CHECKPOINT rows with the thread that wrote each, newest first, over the fork into the origin: at most
        `limit`, only those below `before`."""
        left = limit
        for stretch in self._stretches():
            for row in self._checkpoints_of(stretch, before, left):
                if left is not None:
                    if left <= 0:
                        return
                    left -= 1
                yield stretch.thread_id, row

    def rows_of(self, seq: int) -> list[Row]:
        """All rows of commit `seq`; empty if there is no such commit."""
        stretch = self._stretch(seq)
        if stretch is None:
            return []
        segments = self.store.segments(stretch.thread_id, first=seq, last=seq)
        return [row for row in _rows(segments) if row.checkpoint == seq]

    def pending(self, seq: int) -> list[Row]:
        """RESULT, INTERRUPT, ANSWER, PASS and OPTIONS rows that belong to checkpoint `seq` (their `version`), in order,
        from its own commit and those after it up to the next checkpoint. A fork inherits none: of its origin's
        checkpoints, only the one that it took off from can have any, and those are its own."""
        own = self._stretches()[0]
        if seq < own.first - 1:
            return []
        found: list[Row] = []
        first, width = max(seq, own.first), _FEWEST
        end = self.store.thread(self.thread_id).seq
        while first <= end:
            # Windows of commits from the old end: a checkpoint far back must not cost the whole history after it.
            last = min(first + width - 1, end)
            rows = [
                row
                for segment in reversed(self.store.segments(own.thread_id, first=first, last=last))
                for row in segment.rows
                if first <= row.checkpoint <= last
            ]
            following = min(
                (row.checkpoint for row in rows if row.kind == Kind.CHECKPOINT and row.checkpoint > seq), default=None
            )
            found += [
                row
                for row in rows
                if row.kind in _PENDING and row.version == seq and (following is None or row.checkpoint < following)
            ]
            if following is not None:
                break
            first, width = last + 1, width * 4
        return found

    def channels(self, versions: Mapping[str, int]) -> dict[str, list[Row]]:
        """For each channel at its version: the VALUE or SNAPSHOT row, then the deltas on it in order. None at 0.

        Each segment that is needed is read once, many at a time. Raises `Corrupt` where a row is missing.
        """
        chains: dict[str, list[Row]] = {channel: [] for channel in versions}
        needed = {channel: version for channel, version in versions.items() if version > 0}
        for stretch in self._stretches():
            self._walk(stretch, needed, chains)
        if needed:
            channel, version = max(needed.items(), key=lambda item: item[1])
            raise self._missing(channel, version)
        return {channel: chain[::-1] for channel, chain in chains.items()}

    def _walk(self, stretch: _Stretch, needed: dict[str, int], chains: dict[str, list[Row]]) -> None:
        """Follow every channel down to the stretch's first commit, from the newest needed version on."""
        fetch = _FEWEST
        while needed and (newest := max(needed.values())) >= stretch.first:
            beyond = stretch.last is not None and newest > stretch.last
            segments = self.store.segments(stretch.thread_id, first=stretch.first, last=newest, limit=fetch)
            if beyond or not segments:
                raise self._missing(next(channel for channel in needed if needed[channel] == newest), newest)
            lowest = max(segments[-1].first, stretch.first)
            resolved = _follow(_by_version(segments), needed, chains)
            stuck = [channel for channel, version in needed.items() if version >= lowest]
            if stuck:
                raise self._missing(stuck[0], needed[stuck[0]])
            fetch = min(fetch * 4, _MOST) if resolved * 2 >= len(segments) else max(fetch // 4, _FEWEST)

    def _checkpoints_of(self, stretch: _Stretch, before: int | None, limit: int | None) -> Iterator[Row]:
        last = stretch.last
        if before is not None:
            last = before - 1 if last is None else min(last, before - 1)
        fetch = _MOST if limit is None else max(_FEWEST, min(limit, _MOST))
        while last is None or last >= stretch.first:
            segments = self.store.segments(stretch.thread_id, first=stretch.first, last=last, limit=fetch)
            rows = [
                row
                for row in _rows(segments)
                if row.kind == Kind.CHECKPOINT and (last is None or row.checkpoint <= last)
            ]
            yield from sorted(rows, key=lambda row: -row.checkpoint)
            if len(segments) < fetch:
                return
            last = segments[-1].first - 1

    def _stretches(self) -> tuple[_Stretch, ...]:
        """Whose commits make up the history, newest first. What a thread came from never changes: it is read once."""
        if not self._lineage:
            stretches: list[_Stretch] = []
            thread_id, last = self.thread_id, None
            while True:
                origin = self.store.thread(thread_id).origin
                stretches.append(_Stretch(thread_id, origin.seq + 1 if origin else 1, last))
                if origin is None:
                    break
                # A fork from before its origin's own fork takes nothing of that origin.
                thread_id, last = origin.thread_id, origin.seq if last is None else min(last, origin.seq)
            self._lineage = tuple(stretches)
        return self._lineage

    def _stretch(self, seq: int) -> _Stretch | None:
        for stretch in self._stretches():
            if seq >= stretch.first and (stretch.last is None or seq <= stretch.last):
                return stretch
        return None

    def _missing(self, channel: str, version: int) -> Corrupt:
        stretch = self._stretch(version)
        return Corrupt(
            f"thread {self.thread_id!r}: the row of channel {channel!r} at version {version} is missing from the "
            f"history of thread {stretch.thread_id if stretch else self.thread_id!r}; restore the store from a backup"
        )


def _rows(segments: Iterable[Segment]) -> Iterator[Row]:
    return (row for segment in segments for row in segment.rows)


def _by_version(segments: Iterable[Segment]) -> dict[_Key, list[Row]]:
    """Rows that hold values, by channel and version, in the order written.

    Several writers of one step leave a delta each. Where a whole value is there too, what came before it is only a
    record of who wrote what; what follows it (in a commit of several steps) changes it.
    """
    found: dict[_Key, list[Row]] = {}
    for row in _rows(segments):
        if row.kind in _VALUES and not row.namespace:
            key = (row.channel, row.version)
            if row.kind == Kind.DELTA:
                found.setdefault(key, []).append(row)
            else:
                found[key] = [row]
    return found


def _follow(rows: Mapping[_Key, list[Row]], needed: dict[str, int], chains: dict[str, list[Row]]) -> int:
    """Take every needed row that is there and what it leads to; how many were taken. Whole values end a channel."""
    taken = 0
    for channel in list(needed):
        while (group := rows.get((channel, needed[channel]))) is not None:
            chains[channel].extend(reversed(group))
            taken += 1
            first = group[0]
            if first.kind != Kind.DELTA or not first.prev:
                del needed[channel]
                break
            needed[channel] = first.prev
    return taken
