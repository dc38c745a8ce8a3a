"""Goes through a thread's own commits from the oldest to the newest, a bounded number of bytes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from ..runtime.control import Control, decode_control
from ..stores.base import CheckpointStore
from ..stores.columns import size_of
from ..stores.errors import UnknownCheckpoint, UnknownThread
from ..stores.history import HistoryReader
from ..stores.records import ThreadRecord
from ..stores.segments import Kind, Row

_WINDOW_BYTES = 2 << 20
"""What one fetch should bring, as far as the one before it lets it be foreseen."""
_FEWEST, _MOST = 4, 4096
"""Commits fetched at a time."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One checkpoint."""

    seq: int
    control: Control
    rows: Sequence[Row]
    """All rows of its commit."""


def windows(store: CheckpointStore, record: ThreadRecord) -> Iterator[list[Row]]:
    """The rows of the thread's commits up to the one that `record` knows, oldest first, many at a time.

    What an origin wrote is not its own. Of what retention has dropped those commits come that have a name or that a
    fork took off from, each by itself: in between there may be a long history of which only a little is left.
    """
    start = record.origin.seq + 1 if record.origin is not None else 1
    first = max(start, record.floor)
    for seq in _kept_below(store, record):
        if start <= seq < first:
            yield [row for row in _rows(store, record.thread_id, seq, seq) if row.checkpoint == seq]
    width = _FEWEST
    while first <= record.seq:
        rows = _rows(store, record.thread_id, first, min(first + width - 1, record.seq))
        yield [row for row in rows if first <= row.checkpoint <= record.seq]
        first = max(first + width, rows[-1].checkpoint + 1 if rows else 0)
        width = max(1, min(width * 4, _MOST, width * _WINDOW_BYTES // max(size_of(rows), 1)))


def visits(record: ThreadRecord, rows: Sequence[Row]) -> Iterator[Visit]:
    """The checkpoints among the rows of a window. Raises `Corrupt`, `NewerFormat` naming thread and checkpoint."""
    for seq, group in groupby(rows, key=attrgetter("checkpoint")):
        commit = list(group)
        for row in commit:
            if row.kind == Kind.CHECKPOINT:
                where = f"checkpoint {seq} of thread {record.thread_id!r}"
                yield Visit(seq, decode_control(row.payload, where), commit)


def head(store: CheckpointStore, record: ThreadRecord) -> list[Row]:
    """The rows of the thread's newest checkpoint, which a fork that wrote none yet has of its origin; empty where it
    has none, or was deleted meanwhile."""
    reader = HistoryReader(store, record.thread_id)
    try:
        return reader.rows_of(record.head) if record.head else []
    except (UnknownThread, UnknownCheckpoint):
        return []


def _kept_below(store: CheckpointStore, record: ThreadRecord) -> list[int]:
    if not record.floor:
        return []
    forked = {fork.seq for fork in store.forks(record.thread_id)}
    return sorted(seq for seq in forked | set(record.names.values()) if seq < record.floor)


def _rows(store: CheckpointStore, thread_id: str, first: int, last: int) -> list[Row]:
    """All rows of the segments that overlap commits `first..last`, in order: one that holds more is read once."""
    segments = store.segments(thread_id, first=first, last=last)
    return sorted((row for segment in reversed(segments) for row in segment.rows), key=attrgetter("checkpoint"))
