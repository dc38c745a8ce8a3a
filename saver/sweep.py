"""Goes through a thread's commits once, from the newest, and hands out its checkpoints with their writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from ..stores.fetching import newest_first
from ..stores.records import Segment
from ..stores.segments import Kind
from .places import Place
from .reader import Found, Reader, TaskWrite, settled
from .records import SLACK, Writes, read_checkpoint, read_writes

_Gathered = dict[str, dict[int, Writes]]
"""Writes by the id of their checkpoint and their commit."""


def sweep(reader: Reader, place: Place, last: int) -> Iterator[tuple[Found, list[TaskWrite]]]:
    """Every checkpoint put up to commit `last`, hidden ones too, the last put first, with its writes up to there."""
    return _swept(reader, place, last, {})


def ancestors(reader: Reader, found: Found, last: int) -> Iterator[tuple[Found, list[TaskWrite]]]:
    """The checkpoints that a checkpoint came from, its parent first, with their writes. `last` is the thread's last
    commit."""
    late = _late(reader, found.place, last, found.seq)
    wanted = found.record.parent
    # The parents' stragglers lie behind the checkpoint itself.
    for ancestor, writes in _swept(reader, found.place, min(found.seq + SLACK, last), late):
        if ancestor.seq == wanted:
            yield ancestor, writes
            wanted = ancestor.record.parent
        if not wanted:
            return


def _swept(reader: Reader, place: Place, last: int, gathered: _Gathered) -> Iterator[tuple[Found, list[TaskWrite]]]:
    waiting: deque[Found] = deque()
    for segment in newest_first(reader.store, place.thread_id, last):
        waiting.extend(_take(reader, place, segment, last, gathered))
        # Writes may have come before their checkpoint: it is whole once the sweep has passed the first of them.
        while waiting and waiting[0].record.writes_from >= segment.first:
            yield _whole(waiting.popleft(), gathered)
    while waiting:
        yield _whole(waiting.popleft(), gathered)


def _take(reader: Reader, place: Place, segment: Segment, last: int, gathered: _Gathered) -> Iterator[Found]:
    for row in reversed(segment.rows):
        if row.checkpoint > last:
            continue
        if row.kind == Kind.CHECKPOINT:
            yield Found(place, row.checkpoint, read_checkpoint(place.thread_id, row))
        elif row.kind == Kind.RESULT:
            record = read_writes(place.thread_id, row)
            gathered.setdefault(record.checkpoint_id, {})[row.checkpoint] = record


def _whole(found: Found, gathered: Mapping[str, dict[int, Writes]]) -> tuple[Found, list[TaskWrite]]:
    return found, settled(gathered.get(found.record.id, {}))


def _late(reader: Reader, place: Place, last: int, seq: int) -> _Gathered:
    """The writes that came later than a straggler, to checkpoints up to `seq`."""
    gathered: _Gathered = {}
    at = reader.tail(place, last).late
    while at > seq:
        record = reader.writes_at(place, at)
        if record is None:
            break
        gathered.setdefault(record.checkpoint_id, {})[at] = record
        at = record.link
    return gathered
