"""The columns of a history as a table, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from ..runtime.channels import update_of
from ..runtime.control import Control
from ..runtime.snapshots import checkpoint_id
from ..stores.base import CheckpointStore
from ..stores.codec import Codec
from ..stores.deltas import decode_delta
from ..stores.errors import Corrupt, DisallowedType, UnknownThread
from ..stores.records import ThreadRecord
from ..stores.segments import Kind, Row
from .dataset_values import ChannelValues, Value
from .dataset_walk import Visit
from .json_form import json_text

HistoryKind: TypeAlias = Literal["checkpoints", "values", "writes"]
JSON_FIELD: Mapping[bytes | str, bytes | str] = MappingProxyType({"perdure.json": "1"})
"""Metadata of a column of JSON texts."""
EMPTY_FIELD: Mapping[bytes | str, bytes | str] = MappingProxyType({"perdure.empty": "1"})
"""Metadata of a channel's column without any value: there may be no such channel."""

_TEXTS = pa.list_(pa.string())
_COMMON: tuple[pa.Field[Any], ...] = (
    pa.field("thread_id", pa.string()),
    pa.field("graph", pa.string()),
    pa.field("version", pa.string()),
    pa.field("run", pa.int64()),
    pa.field("step", pa.int64()),
    pa.field("checkpoint_id", pa.string()),
    pa.field("source", pa.string()),
    pa.field("created_at", pa.timestamp("us", "UTC")),
    pa.field("parent", pa.string()),
    pa.field("parent_thread_id", pa.string()),
    pa.field("nodes", _TEXTS),
    pa.field("status", pa.string()),
    pa.field("tags", _TEXTS),
    pa.field("metadata", pa.string(), metadata=dict(JSON_FIELD)),
)
_OWN: Mapping[str, tuple[pa.Field[Any], ...]] = MappingProxyType(
    {
        "checkpoints": (
            pa.field("next", _TEXTS),
            pa.field("measures", pa.map_(pa.string(), pa.float64())),
            pa.field("stored_bytes", pa.int64()),
        ),
        "values": (
            pa.field("channel", pa.string()),
            pa.field("value", pa.string(), metadata=dict(JSON_FIELD)),
            pa.field("set_at", pa.string()),
            pa.field("stored_bytes", pa.int64()),
        ),
        "writes": (
            pa.field("node", pa.string()),
            pa.field("task", pa.string()),
            pa.field("channel", pa.string()),
            pa.field("value", pa.string(), metadata=dict(JSON_FIELD)),
            pa.field("stored_bytes", pa.int64()),
        ),
    }
)
_TOLD = frozenset({Kind.VALUE, Kind.DELTA, Kind.WRITE})
_ROW_SIZE = 256
"""What a row counts beside its values, in bytes."""

Cells: TypeAlias = tuple[Any, ...]
Sized: TypeAlias = tuple[Cells, int]
"""A row, and how many bytes its values take, about."""


def fields_of(kind: HistoryKind) -> tuple[pa.Field[Any], ...]:
    """The columns that every table of a kind has."""
    return (*_COMMON, *_OWN[kind])


class RowsOf:
    """Makes the rows of one thread's checkpoints, in the order in which they are visited."""

    def __init__(
        self,
        store: CheckpointStore,
        record: ThreadRecord,
        codec: Codec,
        kind: HistoryKind,
        channels: Sequence[str] | None,
    ) -> None:
        self.values = ChannelValues(store, record.thread_id, codec, channels)
        self._store = store
        self._record = record
        self._codec = codec
        self._kind = kind
        self._channels = channels or ()
        self._metadata = json_text(dict(record.metadata))
        self._shown: dict[str, int] = {}

    def rows(self, visit: Visit) -> Iterator[Sized]:
        """The checkpoint's rows. Raises as `ChannelValues.at`."""
        common = self._common(visit)
        if self._kind == "checkpoints":
            yield self._checkpoint(common, visit)
        elif self._kind == "values":
            yield from self._values(common, visit)
        else:
            yield from self._writes(common, visit)

    def _common(self, visit: Visit) -> Cells:
        record, control = self._record, visit.control
        return (
            record.thread_id,
            record.graph,
            control.version,
            control.run,
            control.step,
            checkpoint_id(visit.seq),
            control.source,
            _microseconds(control.at),
            checkpoint_id(control.parent) if control.parent else None,
            self._writer(record, control.parent) if control.parent else None,
            [node for _, node in control.done],
            record.status.value,
            list(record.tags),
            self._metadata,
        )

    def _writer(self, record: ThreadRecord, seq: int) -> str:
        """The thread that wrote a commit of this one's history, or has it now that that one was deleted."""
        above = record
        try:
            while above.origin is not None and seq <= above.origin.seq:
                origin = above.origin.thread_id
                above = self._store.thread(origin)
        except UnknownThread:
            fresh = self._store.thread(record.thread_id)
            if fresh.origin == record.origin:
                raise
            return self._writer(fresh, seq)
        return above.thread_id

    def _checkpoint(self, common: Cells, visit: Visit) -> Sized:
        found = self.values.at(visit.seq, visit.control.manifest) if self._channels else {}
        held = [found.get(channel) for channel in self._channels]
        control = visit.control
        measures = [(name, one.number) for name, one in control.measures.items()]
        own = ([task.node for task in control.next], measures, _payload_bytes(visit.rows))
        size = sum(value.size for value in held if value is not None)
        cells = (*common, *own, *(None if value is None else value.value for value in held))
        return cells, _ROW_SIZE + size

    def _values(self, common: Cells, visit: Visit) -> Iterator[Sized]:
        """The channels that have another value than in the checkpoint shown before; those that have none any more
        without a value."""
        found = self.values.at(visit.seq, visit.control.manifest)
        for channel in self._shown.keys() - found.keys():
            del self._shown[channel]
            yield (*common, channel, None, None, 0), _ROW_SIZE
        for channel, held in found.items():
            if self._shown.get(channel) != held.version:
                self._shown[channel] = held.version
                yield self._value(common, channel, held)

    def _value(self, common: Cells, channel: str, held: Value) -> Sized:
        text = json_text(held.value)
        return (*common, channel, text, checkpoint_id(held.version), held.stored), _ROW_SIZE + len(text)

    def _writes(self, common: Cells, visit: Visit) -> Iterator[Sized]:
        """What nodes returned, as it was stored; of an input or an update, what it set."""
        nodes = dict(visit.control.done)
        # A WRITE row says what its node returned where the channel's own rows do not; it is the last word.
        written = {(row.writer, row.channel) for row in visit.rows if row.kind == Kind.WRITE}
        for row in visit.rows:
            # Rows without a writer are the engine's own: the value that a channel starts with, a merge of several.
            told = row.writer and (row.kind == Kind.WRITE or (row.writer, row.channel) not in written)
            if told and row.kind in _TOLD and not row.namespace and self.values.asked(row.channel):
                text = json_text(self._update(row, visit.control))
                own = (nodes.get(row.writer), row.writer, row.channel, text, len(row.payload))
                yield (*common, *own), _ROW_SIZE + len(text)

    def _update(self, row: Row, control: Control) -> Any:
        try:
            if row.kind == Kind.DELTA:
                return update_of(decode_delta(self._codec, row.encoding, row.payload))
            return self._codec.decode(row.encoding, row.payload)
        except (Corrupt, DisallowedType) as error:
            raise Corrupt(
                f"channel {row.channel!r} of thread {self._record.thread_id!r} at checkpoint {row.checkpoint}: {error}"
            ) from error


def _payload_bytes(rows: Sequence[Row]) -> int:
    return sum(len(row.payload) for row in rows)


def _microseconds(at: float) -> int:
    return round(at * 1_000_000)
