"""Follow a thread through its store: each durable step once, in order, whoever owns the thread meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.deltas import decode_delta
from ..stores.errors import UnknownCheckpoint
from ..stores.history import HistoryReader
from ..stores.records import Status
from ..stores.segments import Kind, Row
from .cache import ReadCache
from .channels import update_of
from .control import RUN_CHANNEL, Control, decode_control
from .ports import StepEvent, Told, told_update
from .restore import add_pending, load_values, position_at

_TOLD = frozenset({Kind.VALUE, Kind.DELTA, Kind.WRITE})


class Follower:
    """Reads what a thread has committed since it last looked. Safe against crashes of owners: what was seen was
    durable, and nothing durable is skipped."""

    def __init__(
        self,
        store: CheckpointStore,
        thread_id: str,
        codec: Codec,
        *,
        run: int,
        after: int,
        values: bool,
        cache: ReadCache | None = None,
    ) -> None:
        """Follow run `run`; `after` is a seq before its first commit."""
        self.seen = after
        """Everything up to this seq was looked at."""
        self._store = store
        self._thread_id = thread_id
        self._reader = HistoryReader(store, thread_id, cache=cache)
        self._codec = codec
        self._run = run
        self._values = values
        self._stopped_at = 0

    def read(self) -> Iterator[StepEvent]:
        """Events of the steps committed since the last call, oldest first; then, if the thread waits for an answer now,
        its interrupts, once."""
        record = self._store.thread(self._thread_id)
        if record.seq > self.seen:
            segments = self._store.segments(self._thread_id, first=self.seen + 1, last=record.seq)
            # A segment may have been put together with newer ones meanwhile: those come with the next call.
            rows = [
                row
                for segment in reversed(segments)
                for row in segment.rows
                if self.seen < row.checkpoint <= record.seq
            ]
            self.seen = record.seq
            for checkpoint, group in groupby(rows, key=lambda row: row.checkpoint):
                yield from self._events(checkpoint, list(group))
        if record.status is Status.INTERRUPTED and record.run == self._run and self._stopped_at != record.seq:
            self._stopped_at = record.seq
            yield self._stop(record.head, record.seq)

    def _events(self, seq: int, rows: list[Row]) -> Iterator[StepEvent]:
        for row in rows:
            if row.kind == Kind.CHECKPOINT and (control := self._control(row)).run == self._run:
                try:
                    values = self._read(control, seq)
                except UnknownCheckpoint:
                    continue  # retention has dropped it meanwhile
                yield StepEvent(seq, control.step, control.source, values, self._updates(control, rows))

    def _read(self, control: Control, seq: int) -> Mapping[str, Any]:
        if not self._values:
            return {}
        values = load_values(self._reader, control.manifest, self._codec, at=seq)
        values.pop(RUN_CHANNEL, None)
        return values

    def _updates(self, control: Control, rows: list[Row]) -> tuple[tuple[str, Told], ...]:
        if control.source != "loop":
            return ()
        # A WRITE row says what its node returned where the channel's own rows do not; it is the last word.
        written = {(row.writer, row.channel) for row in rows if row.kind == Kind.WRITE}
        writes: dict[str, list[tuple[str, Any]]] = {path: [] for path, _ in control.done}
        for row in rows:
            told = row.kind in _TOLD and (row.kind == Kind.WRITE or (row.writer, row.channel) not in written)
            if told and row.writer in writes:
                writes[row.writer].append((row.channel, self._update(row)))
        return tuple((node, told_update(writes[path])) for path, node in control.done)

    def _update(self, row: Row) -> Any:
        if row.kind == Kind.DELTA:
            return update_of(decode_delta(self._codec, row.encoding, row.payload))
        return self._codec.decode(row.encoding, row.payload)

    def _stop(self, head: int, seq: int) -> StepEvent:
        _, row = self._reader.checkpoint(head)
        control = self._control(row)
        position = position_at(head, control, {})
        add_pending(position, self._reader, head, self._codec)
        return StepEvent(seq, control.step, "interrupt", self._read(control, head), (), position.interrupts)

    def _control(self, row: Row) -> Control:
        return decode_control(row.payload, f"checkpoint {row.checkpoint} of thread {self._thread_id!r}")
