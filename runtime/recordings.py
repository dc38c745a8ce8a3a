"""What the original of a re-run recorded: read when it is asked for, and never copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.errors import UnknownThread
from ..stores.history import HistoryReader
from ..stores.lineage import KnownRows
from ..stores.records import ThreadRecord
from ..stores.segment_reading import COMMIT
from .cache import CacheOptions, ReadCache
from .calls import Calls
from .control import Control, decode_control
from .position import Position
from .reruns import Rerun
from .restore import GIVEN, add_recorded
from .task import Origin

_MOST = 8 << 20
"""Bytes of what was read of an original that are kept in memory."""


class Place(NamedTuple):
    """A checkpoint of the original, and what the keys of the tasks after it are made of."""

    seq: int
    branch: int
    born: int
    step: int
    since: int
    """Step at which the recursion limit began to count."""


class Recorded(NamedTuple):
    """What the original recorded of one task."""

    origin: Origin
    """Where the task belonged."""
    calls: Calls


def way_on(controls: Mapping[int, Control], start: int) -> dict[int, Place]:
    """The checkpoints with which a run went on from `start`, by their `Control.place`: of several branches those of the
    newest, of several checkpoints at one place the last, which has all that its tasks recorded. `controls`: those from
    `start` on, by seq."""
    first = controls.get(start)
    if first is None:
        return {}
    reached = {start}
    for seq in sorted(controls):
        control = controls[seq]
        if control.parent in reached and control.run == first.run:
            reached.add(seq)
    found: dict[int, Place] = {}
    seq = max(reached)
    while seq in reached:
        control = controls[seq]
        born = control.step if control.born is None else control.born
        found.setdefault(control.place, Place(seq, control.branch, born, control.step, control.since))
        if seq == start:
            break
        seq = control.parent
    return found


class Recordings:
    """Of one re-run. What its original did not record itself, as it was a re-run too, is looked for in the original of
    that one.

    Any call may raise `StoreUnavailable`, and `Corrupt` or `NewerFormat` where a record does not decode.
    """

    def __init__(
        self, store: CheckpointStore, codec: Codec, graph: str, rerun: Rerun, original: ThreadRecord | None = None
    ) -> None:
        """`original`: its row, if that was just read."""
        self.rerun = rerun
        self._row = original
        self._store = store
        self._codec = codec
        self._graph = graph
        self._reader: HistoryReader | None = None
        self._way: dict[int, Place] | None = None
        self._given: frozenset[int] | None = None
        """The checkpoints whose tasks were given something, or that were passed; None if each is to be looked at."""
        self._before: Recordings | None = None
        self._last: tuple[int, Position] | None = None
        """What was read last: the tasks of one step are asked for one after the other."""

    def of(self, place: int, path: str) -> Recorded | None:
        """What is known of a task that the original ran after its checkpoint at `place`; None if it has no such
        checkpoint (any more). Of a live re-run the calls are not read."""
        found = self._places().get(place)
        calls = self._at(found).calls.get(path, {}) if found is not None and self.rerun.strict else {}
        if not calls and self._before is not None and (older := self._before.of(place, path)) is not None:
            return older if self.rerun.strict else older._replace(calls={})
        if found is None:
            return None
        rerun = self.rerun
        origin = Origin(self._graph, rerun.thread_id, found.branch, rerun.run, found.born, found.step + 1)
        return Recorded(origin, calls)

    def passed(self, place: int) -> bool:
        """Whether the original went on from the breakpoint at its checkpoint at `place`, or never stood there."""
        places = self._places()
        if any(other > place for other in places) or (place in places and self._at(places[place]).passed):
            return True
        return self._before is not None and self._before.passed(place)

    def spent(self, place: int) -> int | None:
        """How many steps counted against the recursion limit when the original ran the tasks after its checkpoint at
        `place`, or would have if it had gone on from the last before; what it was told on the way counts from there.
        None if that is not known (any more)."""
        places = self._places()
        known = max((one for one in places if one <= place), default=None)
        found = [] if self._before is None else [self._before.spent(place)]
        if known is not None:
            at = self._at(places[known])
            found.append(at.step - at.since + place - known)
        return min((one for one in found if one is not None), default=None)

    def _at(self, place: Place) -> Position:
        assert self._reader is not None, "who has a place has read the original"
        if self._last is None or self._last[0] != place.seq:
            position = Position(step=place.step, since=place.since)
            if self._given is None or place.seq in self._given:
                add_recorded(position, self._reader, place.seq, self._codec)
            self._last = place.seq, position
        return self._last[1]

    def _places(self) -> dict[int, Place]:
        if self._way is None:
            row = self._original()
            if row is None:
                self._way = {}
            else:
                # One pass over the checkpoints leaves in the cache what their tasks recorded, as far as it has room.
                cache = ReadCache(CacheOptions(max_bytes=_MOST))
                self._reader = HistoryReader(self._store, row.thread_id, record=row, cache=cache)
                self._before = self._older(row)
                try:
                    self._way = way_on(self._controls(self._reader), self.rerun.seq)
                except UnknownThread:  # deleted a moment ago
                    self._way = {}
                    return self._way
                inherited = row.origin.seq if row.origin is not None else 0
                self._given = _given(cache.of(row), max(self.rerun.seq, inherited + 1), row.seq)
        return self._way

    def _original(self) -> ThreadRecord | None:
        """The original's row. It may be gone: its deletion waits for re-runs that replay it, and only for those."""
        row, self._row = self._row, None
        if row is None or row.thread_id != self.rerun.thread_id:
            try:
                row = self._store.thread(self.rerun.thread_id)
            except UnknownThread:
                return None
        return row if row.created_at == self.rerun.made_at else None

    def _controls(self, reader: HistoryReader) -> dict[int, Control]:
        controls: dict[int, Control] = {}
        for thread_id, row in reader.checkpoints():
            if row.checkpoint < self.rerun.seq:
                break
            controls[row.checkpoint] = decode_control(
                row.payload, f"checkpoint {row.checkpoint} of thread {thread_id!r}"
            )
        return controls

    def _older(self, row: ThreadRecord) -> Recordings | None:
        older = Rerun.of(row)
        if older is None or not older.strict or older.run != self.rerun.run:
            return None
        return Recordings(self._store, self._codec, self._graph, older)


def _given(known: KnownRows, first: int, last: int) -> frozenset[int] | None:
    """The checkpoints of whose tasks commits `first..last` tell that they were given something; None where not all of
    these commits are known (any more)."""
    found: set[int] = set()
    for seq in range(first, last + 1):
        rows = known.get((COMMIT, seq))
        if rows is None:
            return None
        found.update(row.version for row in rows if row.kind in GIVEN)
    return frozenset(found)


def recordings_of(
    record: ThreadRecord, store: CheckpointStore | None, codec: Codec, origin: ThreadRecord | None
) -> Recordings | None:
    """The recordings of a thread's original; None if it is no re-run. `origin`: the row of the thread that it was
    forked from, if that was just read: most often the original."""
    rerun = Rerun.of(record) if store is not None else None
    return Recordings(store, codec, record.graph, rerun, origin) if store is not None and rerun is not None else None
