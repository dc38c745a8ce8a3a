"""The rows of a checkpoint's channels: what changed, as a delta where that is less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from langgraph.checkpoint.base import Checkpoint

from ..stores.errors import Corrupt, UnknownCheckpoint
from ..stores.segments import Kind, Row
from .changes import Base, change, outline
from .memory import Held, Memory
from .places import Place
from .reader import Found, Reader
from .records import Packed

_WORTH = 512
"""Bytes of a value from which on a delta is looked for."""
_DELTA_COSTS = 1024
"""Bytes that a delta counts beside its payload, as its commit has to be read."""
_GROWTH = 2
"""A value is written whole again once the deltas since the last whole one are so many times its size: what is kept
stays within a small factor of the data, and what is read within one of the value."""


@dataclass(slots=True)
class ChannelRows:
    """The channels of one checkpoint."""

    rows: list[Row] = field(default_factory=list)
    manifest: dict[str, int] = field(default_factory=dict)
    bases: dict[str, tuple[Base, int]] = field(default_factory=dict)


class ChannelWriter:
    """Makes rows of values."""

    def __init__(self, reader: Reader, memory: Memory) -> None:
        self._reader = reader
        self._memory = memory

    def rows(
        self, place: Place, held: Held, checkpoint: Checkpoint, new_versions: Mapping[str, Any], parent: Found | None
    ) -> ChannelRows:
        """Rows of what changed since the parent, and the manifest of all. A channel that has the parent's version has
        the parent's row; one that is in nobody's is written, changed or not."""
        made = ChannelRows()
        inherited = parent.record.manifest if parent else {}
        before: Mapping[str, Any] = self._reader.body(parent)["channel_versions"] if parent else {}
        values = checkpoint["channel_values"]
        for channel, version in checkpoint["channel_versions"].items():
            if channel not in new_versions and channel in before and before[channel] == version:
                if channel in inherited:
                    made.manifest[channel] = inherited[channel]
            elif channel in values:
                row, base = self._row(place, held, channel, values[channel], inherited.get(channel, 0))
                made.rows.append(row)
                made.manifest[channel] = row.version
                if base is not None:
                    made.bases[channel] = (base, base.whole + base.changed)
        return made

    def _row(self, place: Place, held: Held, channel: str, value: Any, prev: int) -> tuple[Row, Base | None]:
        """The row of a value whose channel was at version `prev` before (0 for none), and the base for the next."""
        seq, where = held.seq + 1, f"thread {place.thread!r}: channel {channel!r}"
        whole: Packed | None = None
        base = self._memory.bases.get((held.token, channel)) if prev else None
        if base is None or base.version != prev:
            whole = self._reader.values.pack(value, where)
            large = len(whole.payload) >= _WORTH
            base = self._stored_base(place, channel, prev) if prev and large else None
            marks = outline(value, self._digest) if large else None
        else:
            marks = outline(value, self._digest)
        delta = change(base.outline, marks, value) if base is not None and marks is not None else None
        if base is not None and delta is not None:
            packed = self._reader.values.pack([int(delta.op), delta.operand], where)
            changed, deltas = base.changed + len(packed.payload), base.deltas + 1
            if changed + _DELTA_COSTS * deltas <= _GROWTH * max(base.whole, _WORTH):
                row = Row(Kind.DELTA, seq, channel, seq, prev, "", packed.encoding, packed.payload)
                return row, Base(seq, marks, base.whole, changed, deltas)
        whole = whole or self._reader.values.pack(value, where)
        row = Row(Kind.SNAPSHOT if delta else Kind.VALUE, seq, channel, seq, prev, "", whole.encoding, whole.payload)
        worth = marks is not None and len(whole.payload) >= _WORTH
        return row, Base(seq, marks, len(whole.payload), 0, 0) if worth else None

    def _stored_base(self, place: Place, channel: str, version: int) -> Base | None:
        """The base as the store has it: to read a large value once costs less than to write it again."""
        try:
            chain = self._reader.chains(place, {channel: version})[channel]
        except (Corrupt, UnknownCheckpoint):
            return None  # written whole, it does not depend on what is missing
        marks = outline(chain.value, self._digest)
        return None if marks is None else Base(version, marks, chain.whole, chain.changed, chain.deltas)

    def _digest(self, value: Any) -> bytes:
        packed = self._reader.values.pack(value, "an item")
        return blake2b(packed.payload, digest_size=16, person=packed.encoding.to_bytes(1, "big")).digest()
