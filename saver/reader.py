"""Reads LangGraph's checkpoints: finds them by id, with their values and the writes that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, writes_sort_key

from ..stores.base import CheckpointStore
from ..stores.deltas import Delta, apply_deltas
from ..stores.errors import Corrupt, UnknownCheckpoint
from ..stores.fetching import newest_first
from ..stores.history import HistoryReader
from ..stores.records import ThreadRecord
from ..stores.segments import Kind, Row
from .places import Place, row_of
from .records import (
    SLACK,
    CheckpointRecord,
    Packed,
    Tail,
    Write,
    Writes,
    read_checkpoint,
    read_tail,
    read_writes,
)
from .remembered import Remembered
from .values import Values

Seqs = Remembered[tuple[str, str], int]
"""Where checkpoints lie, by Perdure thread and LangGraph id. Only a hint: what is found there is looked at."""


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint in its place."""

    place: Place
    seq: int
    record: CheckpointRecord


@dataclass(frozen=True, slots=True)
class TaskWrite:
    """One pending write, before it is decoded."""

    task_id: str
    write: Write


@dataclass(frozen=True, slots=True)
class Chain:
    """A channel's value, with the sizes of the rows that it was read from."""

    value: Any
    whole: int
    changed: int
    deltas: int


class Reader:
    """Reads one store."""

    def __init__(self, store: CheckpointStore, values: Values, seqs: Seqs) -> None:
        self.store = store
        self.values = values
        self.seqs = seqs

    # -- finding -----------------------------------------------------------------------------------------------------

    def asked_for(self, place: Place, checkpoint_id: str | None) -> tuple[Found, int] | None:
        """The checkpoint with this id, or the one with the highest, and the thread's last commit; None if there is no
        such checkpoint, or it was deleted."""
        row = row_of(self.store, place)
        if row is None:
            return None
        found = self.find(place, checkpoint_id, last=row.seq, head=row.head) if checkpoint_id else self.head(place, row)
        return None if found is None or found.record.hidden else (found, row.seq)

    def head(self, place: Place, row: ThreadRecord) -> Found | None:
        """The newest checkpoint as the thread's row tells it."""
        return self.at(place, row.head) if row.head else None

    def find(self, place: Place, checkpoint_id: str, *, last: int, head: int) -> Found | None:
        """The checkpoint with this id among commits up to `last`, hidden or not: at the head, else where it was last
        seen, else by search."""
        for seq in dict.fromkeys((head, self.seqs.get((place.thread_id, checkpoint_id)))):
            found = self.at(place, seq) if seq else None
            if found is not None and found.record.id == checkpoint_id:
                return found
        if not last:
            return None
        if self.tail(place, last).ordered:
            return self._search(place, last, checkpoint_id)
        return next((found for found in self.downwards(place, last) if found.record.id == checkpoint_id), None)

    def at(self, place: Place, seq: int) -> Found | None:
        """The checkpoint of commit `seq`; None if it has none."""
        for segment in self.store.segments(place.thread_id, first=seq, last=seq):
            for row in segment.rows:
                if row.kind == Kind.CHECKPOINT and row.checkpoint == seq:
                    return self._found(place, row)
        return None

    def tail(self, place: Place, seq: int) -> Tail:
        """The tail of the thread's last commit `seq`."""
        segments = self.store.segments(place.thread_id, first=seq, last=seq) if seq else []
        return read_tail(place.thread_id, seq, segments[0].rows) if segments else Tail()

    def downwards(self, place: Place, last: int) -> Iterator[Found]:
        """Every checkpoint up to commit `last`, the last put first, the hidden too."""
        for segment in newest_first(self.store, place.thread_id, last):
            for row in reversed(segment.rows):
                if row.kind == Kind.CHECKPOINT and row.checkpoint <= last:
                    yield self._found(place, row)

    def _search(self, place: Place, last: int, checkpoint_id: str) -> Found | None:
        """By halves, as ids rise with the commits. Where an id was put again the later one counts."""
        low, high, match = 1, last, None
        while low <= high:
            middle = (low + high) // 2
            found = next(self.downwards(place, middle), None)
            if found is None or found.record.id <= checkpoint_id:
                if found is not None and found.record.id == checkpoint_id:
                    match = found
                low = middle + 1
            else:
                high = found.seq - 1
        return match

    def _found(self, place: Place, row: Row) -> Found:
        record = read_checkpoint(place.thread_id, row)
        self.seqs.put((place.thread_id, record.id), row.checkpoint)
        return Found(place, row.checkpoint, record)

    # -- writes ------------------------------------------------------------------------------------------------------

    def writes(self, found: Found, last: int) -> list[TaskWrite]:
        """The writes that belong to a checkpoint, in LangGraph's order. `last` is the thread's last commit."""
        gathered: dict[int, Writes] = {}
        tail = self._punctual(found, last, gathered) or self.tail(found.place, last)
        late = tail.late
        while late > found.seq and late not in gathered:
            record = self.writes_at(found.place, late)
            if record is None:
                break
            if record.checkpoint_id == found.record.id:
                gathered[late] = record
            late = record.link
        return settled(gathered)

    def _punctual(self, found: Found, last: int, gathered: dict[int, Writes]) -> Tail | None:
        """Gather what lies where it is expected. Returns the thread's tail if that was come by."""
        place, first, width, end = found.place, found.record.writes_from, SLACK, last
        tail: Tail | None = None
        while first <= end:
            upto = min(first + width - 1, end)
            segments = self.store.segments(place.thread_id, first=first, last=upto)
            rows = [row for segment in segments for row in segment.rows if first <= row.checkpoint <= upto]
            for row in rows:
                if row.kind == Kind.RESULT:
                    record = read_writes(place.thread_id, row)
                    if record.checkpoint_id == found.record.id:
                        gathered[row.checkpoint] = record
            after = [row.checkpoint for row in rows if row.kind == Kind.CHECKPOINT and row.checkpoint > found.seq]
            if after and end == last:
                end = min(min(after) + SLACK, last)
            if upto == last:
                tail = read_tail(place.thread_id, last, rows)
            first, width = upto + 1, min(width * 4, 256)
        return tail

    def writes_at(self, place: Place, seq: int) -> Writes | None:
        """The writes of commit `seq`; None if it holds none."""
        for segment in self.store.segments(place.thread_id, first=seq, last=seq):
            for row in segment.rows:
                if row.kind == Kind.RESULT and row.checkpoint == seq:
                    return read_writes(place.thread_id, row)
        return None

    def decoded(self, place: Place, write: TaskWrite) -> tuple[str, str, Any]:
        """The write as LangGraph takes it: task id, channel, value."""
        where = f"thread {place.thread!r}: a write of task {write.task_id} to {write.write.channel!r}"
        return write.task_id, write.write.channel, self.values.unpack(write.write.value, where)

    def body(self, found: Found) -> dict[str, Any]:
        """LangGraph's checkpoint but for the values."""
        where = f"thread {found.place.thread!r}: checkpoint {found.record.id}"
        body: dict[str, Any] = self.values.unpack(found.record.checkpoint, where)
        return body

    def metadata(self, found: Found) -> dict[str, Any]:
        """LangGraph's metadata of a checkpoint."""
        where = f"thread {found.place.thread!r}: metadata of checkpoint {found.record.id}"
        metadata: dict[str, Any] = self.values.unpack(found.record.metadata, where)
        return metadata

    # -- values ------------------------------------------------------------------------------------------------------

    def channels(self, found: Found) -> dict[str, Any] | None:
        """The values of a checkpoint's channels; None if it was deleted meanwhile.

        Raises `Corrupt` where a row of one that is there is missing or does not decode.
        """
        try:
            chains = self.chains(found.place, found.record.manifest)
        except (Corrupt, UnknownCheckpoint):
            # Rows go only after their checkpoint did.
            still = self.at(found.place, found.seq)
            if still is None or still.record.hidden:
                return None
            raise
        return {channel: chain.value for channel, chain in chains.items()}

    def chains(self, place: Place, manifest: Mapping[str, int]) -> dict[str, Chain]:
        """Each channel's value at its version."""
        rows = HistoryReader(self.store, place.thread_id).channels(manifest) if manifest else {}
        return {channel: self._chain(place, channel, rows[channel]) for channel in manifest}

    def _chain(self, place: Place, channel: str, rows: Sequence[Row]) -> Chain:
        where = f"thread {place.thread!r}, channel {channel!r} (thread {place.thread_id!r})"
        first, *others = rows
        value = self.values.unpack(Packed(first.encoding, first.payload), where)
        deltas = [self._delta(row, where) for row in others]
        changed = sum(len(row.payload) for row in others)
        return Chain(apply_deltas(value, deltas), len(first.payload), changed, len(others))

    def _delta(self, row: Row, where: str) -> Delta:
        pair = self.values.unpack(Packed(row.encoding, row.payload), where)
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int:
            raise Corrupt(f"{where}: a stored delta is no operation with an operand; restore a backup")
        return Delta(*pair)


def settled(gathered: Mapping[int, Writes]) -> list[TaskWrite]:
    """The writes that stand of all that were put, by commit: the first of each place, of special ones the last."""
    standing: dict[tuple[str, int], tuple[str, TaskWrite]] = {}
    for seq in sorted(gathered):
        record = gathered[seq]
        for write in record.writes:
            key = (record.task_id, write.index)
            if write.index < 0 or key not in standing:
                standing[key] = (record.task_path, TaskWrite(record.task_id, write))
    order = sorted(standing, key=lambda key: writes_sort_key(standing[key][0], *key))
    return [standing[key][1] for key in order]


def numbered(channels: Iterable[str]) -> list[int]:
    """The index of each of a task's writes."""
    return [WRITES_IDX_MAP.get(channel, place) for place, channel in enumerate(channels)]
