"""Reads a thread's history: its own commits and, before the fork, those of the threads it came from.

Commits never change once they are written, so a reader that races with a writer sees what was there when it began.
Housekeeping may put them into fewer segments at any time. What retention drops it hides first: a reader that still
comes to need a row of it learns that the checkpoint is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

from .base import CheckpointStore
from .chains import VALUES, Key, base_of, by_version
from .errors import Corrupt, UnknownCheckpoint
from .fetching import Width, newest_first
from .records import Segment, ThreadRecord
from .segments import Kind, Row

_PENDING = frozenset({Kind.RESULT, Kind.INTERRUPT, Kind.ANSWER, Kind.PASS, Kind.OPTIONS})

COMMIT: Final = ""
"""Stands for a channel in the key of what a commit holds besides values (`tells`)."""


def tells(row: Row) -> bool:
    """Whether a row says something of a checkpoint or of its tasks."""
    return row.kind not in VALUES and row.kind != Kind.WRITE


RowKey: TypeAlias = Key
"""A channel and a version of it; or `COMMIT` and a commit."""


class KnownRows(Protocol):
    """Rows of one thread that need not be read again: what a version of a channel adds to the one that it changes, and
    (under `COMMIT`) what a commit tells of its checkpoint and tasks."""

    def get(self, key: RowKey) -> Sequence[Row] | None:
        """The rows, if they are known."""
        ...

    def put(self, key: RowKey, rows: Sequence[Row]) -> None:
        """Remember all of a key's rows."""
        ...


class RowCache(Protocol):
    """Rows that were read before. Rows never change; which of them make up the newest state is never cached."""

    def of(self, thread: ThreadRecord) -> KnownRows:
        """Those of one thread, whose row was just read."""
        ...


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Commits `first..last` of a lineage, which are those of one thread. `last` None: to the end."""

    thread_id: str
    first: int
    last: int | None
    floor: int
    """The thread's floor when the reader first looked."""
    named: frozenset[int]
    known: KnownRows | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """What the last look at single commits brought along: often they are in one segment with what is asked for next."""

    thread_id: str
    told: Mapping[int, Sequence[Row]]
    values: Mapping[Key, list[Row]]


class HistoryReader:
    """The history of one thread, up to `record` if that is given, its row. With a `cache` it reads only what that does
    not have. Raises `UnknownThread` with the first call if there is no such thread."""

    def __init__(
        self,
        store: CheckpointStore,
        thread_id: str,
        *,
        record: ThreadRecord | None = None,
        cache: RowCache | None = None,
    ) -> None:
        self.store = store
        self.thread_id = thread_id
        self._record = record
        self._cache = cache
        self._lineage: tuple[_Stretch, ...] = ()
        self._look = _Look("", {}, {})
        self._forked: dict[str, frozenset[int]] = {}
        self.segments = 0
        """Segments that were read for the values of channels."""

    def checkpoint(self, seq: int) -> tuple[str, Row]:
        """The CHECKPOINT row at exactly `seq`, and the thread that wrote it.

        Raises `UnknownCheckpoint`, also for one that retention has dropped.
        """
        stretch = self._stretch(seq)
        if stretch is not None and not self._hidden(stretch, seq):
            for row in self._told(stretch, seq, seq):
                if row.kind == Kind.CHECKPOINT:
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
        return [] if stretch is None else self._rows(stretch, seq, seq)

    def told(self, seq: int) -> list[Row]:
        """What commit `seq` tells of its checkpoint and tasks; empty if there is no such commit."""
        stretch = self._stretch(seq)
        return [] if stretch is None else self._told(stretch, seq, seq)

    def pending(self, seq: int) -> list[Row]:
        """RESULT, INTERRUPT, ANSWER, PASS and OPTIONS rows that belong to checkpoint `seq` (their `version`), in order,
        from its own commit and those after it up to the next checkpoint. A fork inherits none: of its origin's
        checkpoints, only the one that it took off from can have any, and those are its own."""
        own = self._stretches()[0]
        if seq < own.first - 1:
            return []
        found: list[Row] = []
        first, width = max(seq, own.first), 4
        end = (self._record or self.store.thread(self.thread_id)).seq
        while first <= end:
            # Windows of commits from the old end: a checkpoint far back must not cost the whole history after it.
            last = min(first + width - 1, end)
            # Below the floor values may be all that is left of a later checkpoint.
            rows = self._rows(own, first, last) if seq < own.floor else self._told(own, first, last)
            following = min((row.checkpoint for row in rows if _follows(row, seq, own.floor)), default=None)
            found += [
                row
                for row in rows
                if row.kind in _PENDING and row.version == seq and (following is None or row.checkpoint < following)
            ]
            if following is not None:
                break
            first, width = last + 1, width * 4
        return found

    def channels(self, versions: Mapping[str, int], *, at: int | None = None) -> dict[str, list[Row]]:
        """For each channel at its version: the VALUE or SNAPSHOT row, then the deltas on it in order. None at 0.

        Each segment that is needed is read once, many at a time. Raises `Corrupt` where a row is missing;
        `UnknownCheckpoint` where that is since retention dropped the checkpoint `at`, which the versions belong to.
        """
        try:
            return self._channels(versions, at)
        except (Corrupt, UnknownCheckpoint):
            if self._cache is None:
                raise
            # What is cached may lead to rows that are no longer kept, as nothing in the store leads to them.
            self._cache = None
            self._lineage = tuple(replace(stretch, known=None) for stretch in self._stretches())
            return self._channels(versions, at)

    def _channels(self, versions: Mapping[str, int], at: int | None) -> dict[str, list[Row]]:
        chains: dict[str, list[Row]] = {channel: [] for channel in versions}
        needed = {channel: version for channel, version in versions.items() if version > 0}
        for stretch in self._stretches():
            absent = self._walk(stretch, needed, chains)
            if absent is not None:
                raise self._missing(*absent, at)
        if needed:
            channel, version = max(needed.items(), key=lambda item: item[1])
            raise self._missing(channel, version, at)
        self._look = replace(self._look, values={})  # this may be large, and is not needed twice
        return {channel: chain[::-1] for channel, chain in chains.items()}

    def _walk(self, stretch: _Stretch, needed: dict[str, int], chains: dict[str, list[Row]]) -> Key | None:
        """Follow every channel down to the stretch's first commit, from the newest needed version on. Returns what is
        not there."""
        width = Width()
        while needed:
            while self._follow_known(stretch, needed, chains):
                continue
            newest = max(needed.values(), default=0)
            if newest < stretch.first:
                break
            beyond = stretch.last is not None and newest > stretch.last
            segments = self.store.segments(stretch.thread_id, first=stretch.first, last=newest, limit=width.count)
            self.segments += len(segments)
            if beyond or not segments:
                return next(channel for channel in needed if needed[channel] == newest), newest
            lowest = max(segments[-1].first, stretch.first)
            resolved = _follow(by_version(_rows(segments)), needed, chains, stretch.known)
            stuck = [key for key in needed.items() if key[1] >= lowest]
            if stuck:
                return stuck[0]
            # Many at a time where the needed ones lie side by side, few where they lie apart.
            width.learn(segments, useful=resolved * 2 >= len(segments))
        return None

    def _follow_known(self, stretch: _Stretch, needed: dict[str, int], chains: dict[str, list[Row]]) -> int:
        """Take what need not be read; how much that was."""
        taken = _follow(stretch.known, needed, chains) if stretch.known is not None else 0
        if self._look.thread_id == stretch.thread_id:
            taken += _follow(self._look.values, needed, chains, stretch.known)
        return taken

    def _told(self, stretch: _Stretch, first: int, last: int) -> list[Row]:
        """What the commits `first..last` tell, oldest first."""
        told: dict[int, Sequence[Row]] = {}
        while first <= last and (rows := self._known_of(stretch, first)) is not None:
            told[first] = rows
            first += 1
        if first <= last:
            segments = self.store.segments(stretch.thread_id, first=first, last=last)
            found = _learn(segments, stretch.known)
            self._look = _Look(stretch.thread_id, found, by_version(_rows(segments)))
            told |= {seq: rows for seq, rows in found.items() if first <= seq <= last}
        return [row for seq in sorted(told) for row in told[seq]]

    def _known_of(self, stretch: _Stretch, seq: int) -> Sequence[Row] | None:
        rows = stretch.known.get((COMMIT, seq)) if stretch.known is not None else None
        if rows is None and self._look.thread_id == stretch.thread_id:
            return self._look.told.get(seq)
        return rows

    def _rows(self, stretch: _Stretch, first: int, last: int) -> list[Row]:
        """All rows of the commits `first..last`, oldest first."""
        segments = self.store.segments(stretch.thread_id, first=first, last=last)
        return [row for row in _rows(reversed(segments)) if first <= row.checkpoint <= last]

    def _checkpoints_of(self, stretch: _Stretch, before: int | None, limit: int | None) -> Iterator[Row]:
        ends = [last for last in (stretch.last, None if before is None else before - 1) if last is not None]
        last = min(ends) if ends else self.store.thread(stretch.thread_id).seq
        first = max(stretch.first, stretch.floor)
        for segment in newest_first(self.store, stretch.thread_id, last, first=first):
            told = _learn([segment], stretch.known)
            found = [
                row
                for rows in told.values()
                for row in rows
                if row.kind == Kind.CHECKPOINT and first <= row.checkpoint <= last
            ]
            yield from sorted(found, key=lambda row: -row.checkpoint)
        # Below the floor there may be a long history of which only what is needed is left: no way through it.
        for seq in self._safe(stretch) if stretch.floor else ():
            if stretch.first <= seq <= last and seq < stretch.floor:
                segments = self.store.segments(stretch.thread_id, first=seq, last=seq)
                yield from (row for row in _rows(segments) if row.kind == Kind.CHECKPOINT and row.checkpoint == seq)

    def _hidden(self, stretch: _Stretch, seq: int) -> bool:
        """Whether retention has dropped commit `seq`."""
        if seq >= stretch.floor or seq in stretch.named or seq == stretch.last:
            return False  # the last of an origin's is where the fork took off, and so stays
        return seq not in self._forks(stretch.thread_id)

    def _safe(self, stretch: _Stretch) -> list[int]:
        """Commits that names and forks refer to, newest first."""
        return sorted(stretch.named | self._forks(stretch.thread_id), reverse=True)

    def _forks(self, thread_id: str) -> frozenset[int]:
        if thread_id not in self._forked:
            self._forked[thread_id] = frozenset(fork.seq for fork in self.store.forks(thread_id))
        return self._forked[thread_id]

    def _stretches(self) -> tuple[_Stretch, ...]:
        """Whose commits make up the history, newest first. What a thread came from never changes: it is read once."""
        if not self._lineage:
            stretches: list[_Stretch] = []
            thread_id, last = self.thread_id, None
            while True:
                own = self._record if thread_id == self.thread_id else None
                row = own or self.store.thread(thread_id)
                origin = row.origin
                known = self._cache.of(row) if self._cache is not None else None
                stretches.append(replace(_stretch_of(row, last), known=known))
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

    def _missing(self, channel: str, version: int, at: int | None) -> Corrupt | UnknownCheckpoint:
        """What it means that a row is not there."""
        known = self._stretch(version)
        stretch = self._stretch(version if at is None else at)
        if stretch is not None and known is not None:
            fresh = _stretch_of(self.store.thread(stretch.thread_id), stretch.last)
            if at is not None:
                self._forked.pop(stretch.thread_id, None)
                if self._hidden(fresh, at):
                    return UnknownCheckpoint(self.thread_id, at)
            elif stretch.floor < fresh.floor and version < fresh.floor:
                return UnknownCheckpoint(self.thread_id, version)
        return Corrupt(
            f"thread {self.thread_id!r}: the row of channel {channel!r} at version {version} is missing from the "
            f"history of thread {known.thread_id if known else self.thread_id!r}; restore the store from a backup"
        )


def _stretch_of(row: ThreadRecord, last: int | None) -> _Stretch:
    first = row.origin.seq + 1 if row.origin else 1
    return _Stretch(row.thread_id, first, last, row.floor, frozenset(row.names.values()))


def _follows(row: Row, seq: int, floor: int) -> bool:
    """Whether a row shows that there was a later checkpoint than `seq`. Of those below the floor the values may be all
    that is left."""
    if row.checkpoint <= seq:
        return False
    return row.kind == Kind.CHECKPOINT or (row.checkpoint < floor and row.kind in VALUES)


def _rows(segments: Iterable[Segment]) -> Iterator[Row]:
    return (row for segment in segments for row in segment.rows)


def _learn(segments: Sequence[Segment], known: KnownRows | None) -> dict[int, list[Row]]:
    """What the commits in some segments tell, which is put into `known`. (Nothing is known of commits to come.)"""
    told: dict[int, list[Row]] = {seq: [] for one in segments for seq in range(one.first, one.last + 1)}
    for row in _rows(segments):
        if row.checkpoint in told and tells(row):
            told[row.checkpoint].append(row)
    if known is not None:
        for seq, rows in told.items():
            known.put((COMMIT, seq), rows)
    return told


def _follow(
    rows: Mapping[Key, list[Row]] | KnownRows,
    needed: dict[str, int],
    chains: dict[str, list[Row]],
    known: KnownRows | None = None,
) -> int:
    """Take every needed row that is there and what it leads to; how many were taken. Whole values end a channel. What
    is taken is put into `known`."""
    taken = 0
    for channel in list(needed):
        while (group := rows.get((channel, needed[channel]))) is not None:
            chains[channel].extend(reversed(group))
            taken += 1
            if known is not None:
                known.put((channel, needed[channel]), group)
            base = base_of(group)
            if not base:
                del needed[channel]
                break
            needed[channel] = base
    return taken
