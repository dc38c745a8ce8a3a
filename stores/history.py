"""Reads a thread's history: its own commits and, before the fork, those of the threads it came from.

Commits never change once they are written, so a reader that races with a writer sees what was there when it began.
Housekeeping may put them into fewer segments at any time. What retention drops it hides first: a reader that still
comes to need a row of it learns that the checkpoint is gone. When an origin is deleted its commits become the fork's
own: a reader that had looked for them there notices, and looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .base import CheckpointStore
from .chains import Key
from .errors import Corrupt, UnknownCheckpoint, UnknownThread
from .fetching import Width, pages
from .lineage import Lineage, RowCache, Stretch, stretch_of
from .records import Segment, ThreadRecord
from .segment_reading import AFTER, COMMIT, FEWEST, Tracing, follows, learn, portions, rows_of
from .segments import Kind, Row

T = TypeVar("T")

PENDING = frozenset(
    {Kind.RESULT, Kind.INTERRUPT, Kind.ANSWER, Kind.PASS, Kind.OPTIONS, Kind.CALL, Kind.WAIT, Kind.BEAT}
)
"""Kinds of rows that belong to the tasks after a checkpoint, of which a fork inherits none."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What the last look at single commits brought along: often they are in one segment with what is asked for next."""

    thread_id: str
    segments: Sequence[Segment]
    """Newest first."""


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
        self._lineage = Lineage(store, thread_id, record, cache)
        self._strayed = False
        """Something was taken from another thread than one's own, and it was not looked whether it still counts."""
        self._steady = False
        """Whoever reads now looks at the end."""
        self._look = _Look("", ())
        self._forked: dict[str, frozenset[int]] = {}
        self.segments = 0
        """Segments that were read for the values of channels."""

    @property
    def origin(self) -> ThreadRecord | None:
        """The row of the thread that this one was forked from, where it was read on the way."""
        return self._lineage.origin

    def checkpoint(self, seq: int) -> tuple[str, Row]:
        """The CHECKPOINT row at exactly `seq`, and the thread that wrote it.

        Raises `UnknownCheckpoint`, also for one that retention has dropped.
        """
        return self.steadily(lambda: self._checkpoint(seq))

    def _checkpoint(self, seq: int) -> tuple[str, Row]:
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
        while left is None or left > 0:
            try:
                for page in self._pages_of_checkpoints(before, left):
                    for thread_id, row in page[:left]:
                        before = row.checkpoint
                        left = None if left is None else left - 1
                        yield thread_id, row
                return
            except _Moved:
                continue  # from below the last one on

    def _pages_of_checkpoints(self, before: int | None, limit: int | None) -> Iterator[list[tuple[str, Row]]]:
        """CHECKPOINT rows, newest first. Raises `_Moved` where they are another thread's by now."""
        try:
            for stretch in self._stretches():
                for rows in self._checkpoints_of(stretch, before, limit):
                    self._check_moved()
                    yield [(stretch.thread_id, row) for row in rows]
                    limit = None if limit is None else limit - len(rows)
                    if limit is not None and limit <= 0:
                        return
        except (Corrupt, UnknownThread):
            self._check_moved(always=True)
            raise

    def rows_of(self, seq: int) -> list[Row]:
        """All rows of commit `seq`; empty if there is no such commit."""
        return self.steadily(lambda: self._of_commit(seq, self._rows))

    def told(self, seq: int) -> list[Row]:
        """What commit `seq` tells of its checkpoint and tasks; empty if there is no such commit."""
        return self.steadily(lambda: self._of_commit(seq, self._told))

    def _of_commit(self, seq: int, read: Callable[[Stretch, int, int], list[Row]]) -> list[Row]:
        stretch = self._stretch(seq)
        return [] if stretch is None else read(stretch, seq, seq)

    def pending(self, seq: int) -> list[Row]:
        """The rows about tasks and options that belong to checkpoint `seq` (their `version`), in order, from its own
        commit and those after it up to the next checkpoint. A fork inherits none: of its origin's checkpoints, only the
        one that it took off from can have any, and those are its own."""
        own = self._stretches()[0]
        if seq < own.first - 1:
            return []
        found: list[Row] = []
        first, width = max(seq, own.first), AFTER
        end = self._newest()
        while first <= end:
            # Windows of commits from the old end: a checkpoint far back must not cost the whole history after it.
            last = min(first + width - 1, end)
            # Below the floor values may be all that is left of a later checkpoint.
            rows = self._rows(own, first, last) if seq < own.floor else self._told(own, first, last)
            following = min((row.checkpoint for row in rows if follows(row, seq, own.floor)), default=None)
            found += [
                row
                for row in rows
                if row.kind in PENDING and row.version == seq and (following is None or row.checkpoint < following)
            ]
            if following is not None:
                break
            first, width = last + 1, width * 4
        return found

    def channels(self, versions: Mapping[str, int], *, at: int | None = None) -> dict[str, Sequence[Row]]:
        """For each channel at its version: the VALUE or SNAPSHOT row, then the deltas on it in order. None at 0.

        Each segment that is needed is read once, many at a time. Raises `Corrupt` where a row is missing;
        `UnknownCheckpoint` where that is since retention dropped the checkpoint `at`, which the versions belong to.
        """
        return self.steadily(lambda: self._channels_somehow(versions, at))

    def _channels_somehow(self, versions: Mapping[str, int], at: int | None) -> dict[str, Sequence[Row]]:
        try:
            return self._channels(versions, at)
        except (Corrupt, UnknownCheckpoint):
            if not self._lineage.cached:
                raise
            # What is cached may lead to rows that are no longer kept, as nothing in the store leads to them.
            self._lineage.forget_cache()
            return self._channels(versions, at)

    def _channels(self, versions: Mapping[str, int], at: int | None) -> dict[str, Sequence[Row]]:
        tracing = Tracing(versions)
        for stretch in self._stretches():
            absent = self._walk(stretch, tracing)
            if absent is not None:
                raise self._missing(*absent, at)
        if tracing.needed:
            channel, version = max(tracing.needed.items(), key=lambda item: item[1])
            raise self._missing(channel, version, at)
        self._look = _Look("", ())  # this may be large, and is not needed twice
        return tracing.rows()

    def _walk(self, stretch: Stretch, tracing: Tracing) -> Key | None:
        """Follow every channel down to the stretch's first commit, from the newest needed version on. Returns what is
        not there."""
        self._enter(stretch)
        width, needed = Width(), tracing.needed
        while needed:
            while self._follow_known(stretch, tracing):
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
            used = tracing.follow(segments)
            stuck = [key for key in needed.items() if key[1] >= lowest]
            if stuck:
                return stuck[0]
            # Many at a time where the needed ones lie side by side, few where they lie apart.
            width.learn(segments, useful=used * 2 >= len(segments))
        tracing.settle(stretch.known)
        return None

    def _follow_known(self, stretch: Stretch, tracing: Tracing) -> int:
        """Take what need not be read; how much that was."""
        taken = tracing.take(stretch.known) if stretch.known is not None else 0
        if self._look.thread_id == stretch.thread_id:
            taken += tracing.follow(self._look.segments)
        return taken

    def _told(self, stretch: Stretch, first: int, last: int) -> list[Row]:
        """What the commits `first..last` tell, oldest first."""
        self._enter(stretch)
        told: dict[int, Sequence[Row]] = {}
        while first <= last and (rows := self._known_of(stretch, first)) is not None:
            told[first] = rows
            first += 1
        if first <= last:
            segments = self.store.segments(stretch.thread_id, first=first, last=last)
            self._look = _Look(stretch.thread_id, segments)
            told |= learn(segments, first, last, stretch.known)
        return [row for seq in sorted(told) for row in told[seq]]

    def _known_of(self, stretch: Stretch, seq: int) -> Sequence[Row] | None:
        rows = stretch.known.get((COMMIT, seq)) if stretch.known is not None else None
        if rows is None and self._look.thread_id == stretch.thread_id:
            return learn(self._look.segments, seq, seq, stretch.known).get(seq)
        return rows

    def _rows(self, stretch: Stretch, first: int, last: int) -> list[Row]:
        """All rows of the commits `first..last`, oldest first."""
        self._enter(stretch)
        segments = self.store.segments(stretch.thread_id, first=first, last=last)
        return [row for row in rows_of(reversed(segments)) if first <= row.checkpoint <= last]

    def _checkpoints_of(self, stretch: Stretch, before: int | None, limit: int | None) -> Iterator[list[Row]]:
        ends = [last for last in (stretch.last, None if before is None else before - 1) if last is not None]
        last = min(ends) if ends else self._newest()
        first = max(stretch.first, stretch.floor)
        few = limit is not None and limit <= FEWEST
        segments = pages(self.store, stretch.thread_id, last, first=first, few=few)
        for segment, low, high in portions(segments, last):
            self._enter(stretch)
            told = learn([segment], low, high, stretch.known)
            found = [
                row
                for rows in told.values()
                for row in rows
                if row.kind == Kind.CHECKPOINT and first <= row.checkpoint <= last
            ]
            yield sorted(found, key=lambda row: -row.checkpoint)
        # Below the floor there may be a long history of which only what is needed is left: no way through it.
        for seq in self._safe(stretch) if stretch.floor else ():
            if stretch.first <= seq <= last and seq < stretch.floor:
                rows = self._rows(stretch, seq, seq)
                yield [row for row in rows if row.kind == Kind.CHECKPOINT]

    def _hidden(self, stretch: Stretch, seq: int) -> bool:
        """Whether retention has dropped commit `seq`."""
        if seq >= stretch.floor or seq in stretch.named or seq == stretch.last:
            return False  # the last of an origin's is where the fork took off, and so stays
        return seq not in self._forks(stretch.thread_id)

    def _safe(self, stretch: Stretch) -> list[int]:
        """Commits that names and forks refer to, newest first."""
        return sorted(stretch.named | self._forks(stretch.thread_id), reverse=True)

    def _forks(self, thread_id: str) -> frozenset[int]:
        if thread_id not in self._forked:
            self._forked[thread_id] = frozenset(fork.seq for fork in self.store.forks(thread_id))
        return self._forked[thread_id]

    def _stretches(self) -> tuple[Stretch, ...]:
        return self._lineage.stretches()

    def _newest(self) -> int:
        """The thread's own newest commit."""
        return (self._lineage.record or self.store.thread(self.thread_id)).seq

    def _stretch(self, seq: int) -> Stretch | None:
        for stretch in self._stretches():
            if seq >= stretch.first and (stretch.last is None or seq <= stretch.last):
                return stretch
        return None

    # -- origins that are deleted meanwhile ------------------------------------------------------------------------

    def _enter(self, stretch: Stretch) -> None:
        """Take something from a stretch, read or remembered."""
        self._strayed = self._strayed or stretch.thread_id != self.thread_id

    def steadily(self, read: Callable[[], T]) -> T:
        """What `read` returns, which may call this reader several times: read again until nothing of it was taken from
        a thread that is not the origin any more. One look for all of it, where each call would take one. (Not for
        `checkpoints`, which looks by itself between its pages.)"""
        if self._steady:
            return read()
        self._steady = True
        try:
            while True:
                try:
                    found = read()
                except (Corrupt, UnknownCheckpoint, UnknownThread):
                    if not self._has_moved():
                        raise
                else:
                    if not (self._strayed and self._has_moved()):
                        return found
        finally:
            self._steady = False

    def _check_moved(self, *, always: bool = False) -> None:
        if (always or self._strayed) and self._has_moved():
            raise _Moved

    def _has_moved(self) -> bool:
        self._strayed = False
        moved = self._lineage.moved()
        if moved:
            self._look = _Look("", ())
            self._forked.clear()
        return moved

    def _missing(self, channel: str, version: int, at: int | None) -> Corrupt | UnknownCheckpoint:
        """What it means that a row is not there."""
        known = self._stretch(version)
        stretch = self._stretch(version if at is None else at)
        if stretch is not None and known is not None:
            fresh = stretch_of(self.store.thread(stretch.thread_id), stretch.last)
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


class _Moved(Exception):
    """The lineage is another one than it was when it was read."""
