"""Follow a thread through its store: each durable step once, in order, whoever owns the thread meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.deltas import decode_delta
from ..stores.history import HistoryReader
from ..stores.records import Status
from ..stores.segments import Kind, Row
from .channels import update_of
from .control import RUN_CHANNEL, Control, decode_control
from .ports import StepEvent
from .restore import add_pending, load_values, position_at

_TOLD = frozenset({Kind.VALUE, Kind.DELTA, Kind.WRITE})


class Follower:
    """Reads what a thread has committed since it last looked. Safe against crashes of owners: what was seen was durable,
    and nothing durable is skipped."""

    def __init__(self, store: CheckpointStore, thread_id: str, codec: Codec, *, after: int, values: bool) -> None:
        self.seen = after
        """Everything up to this seq was looked at."""
        self._store = store
        self._thread_id = thread_id
        self._reader = HistoryReader(store, thread_id)
        self._codec = codec
        self._values = values
        self._stopped_at = 0

    def read(self) -> Iterator[StepEvent]:
        """Events of the steps committed since the last call, oldest first; then, if the thread waits for an answer now,
        its interrupts, once."""
        record = self._store.thread(self._thread_id)
        if record.seq > self.seen:
            segments = self._store.segments(self._thread_id, first=self.seen + 1, last=record.seq)
            rows = [row for segment in reversed(segments) for row in segment.rows if row.checkpoint > self.seen]
            self.seen = record.seq
            for row in rows:
                if row.kind == Kind.CHECKPOINT:
                    yield self._event(row, [other for other in rows if other.checkpoint == row.checkpoint])
        if record.status is Status.INTERRUPTED and self._stopped_at != record.seq:
            self._stopped_at = record.seq
            yield self._stop(record.head, record.seq)

    def _event(self, row: Row, rows: list[Row]) -> StepEvent:
        control = self._control(row)
        values: Mapping[str, Any] = {}
        if self._values:
            values = load_values(self._reader, control.manifest, self._codec)
            values.pop(RUN_CHANNEL, None)
        return StepEvent(row.checkpoint, control.step, control.source, values, self._updates(control, rows))

    def _updates(self, control: Control, rows: list[Row]) -> tuple[tuple[str, dict[str, Any]], ...]:
        if control.source != "loop":
            return ()
        updates: dict[str, dict[str, Any]] = {path: {} for path, _ in control.done}
        # A WRITE row says what its node returned where the channel's own rows do not; it is the last word.
        for row in sorted((row for row in rows if row.kind in _TOLD), key=lambda row: row.kind == Kind.WRITE):
            if row.writer in updates:
                updates[row.writer][row.channel] = self._update(row)
        return tuple((node, updates[path]) for path, node in control.done)

    def _update(self, row: Row) -> Any:
        if row.kind == Kind.DELTA:
            return update_of(decode_delta(self._codec, row.encoding, row.payload))
        return self._codec.decode(row.encoding, row.payload)

    def _stop(self, head: int, seq: int) -> StepEvent:
        _, row = self._reader.checkpoint(head)
        control = self._control(row)
        position = position_at(head, control, {})
        add_pending(position, self._reader, head, self._codec)
        stops = tuple(stop for task in control.next for stop in position.stops.get(task.path, ()))
        return StepEvent(seq, control.step, "interrupt", {}, (), stops)

    def _control(self, row: Row) -> Control:
        return decode_control(row.payload, f"checkpoint {row.checkpoint} of thread {self._thread_id!r}")
