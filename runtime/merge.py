"""Merge the writes of a step into the channels, in a fixed order, and turn what changed into rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..stores.codec import Codec, Encoding
from ..stores.deltas import encode_delta
from ..stores.errors import Unencodable
from ..stores.segments import Kind, Row
from .channels import MISSING, Change, Channel, Merge
from .control import Control, encode_control
from .errors import UnencodableState
from .topology import Topology

Write = tuple[str, str, Any]
"""(path of the writer, channel, update)"""


class ChannelSizes:
    """How much a reader of a channel has to read, so that deltas are replaced by a whole value before they outgrow it.

    A list that is only appended to never needs that: its deltas are the value. Other deltas (a key set again and again)
    may add up to many times the value; then the value is written anew, which at most doubles what is stored.
    """

    def __init__(self) -> None:
        self._whole: dict[str, int] = {}
        self._deltas: dict[str, int] = {}

    def start(self, channel: str, whole: int, deltas: int) -> None:
        """Note what recovery read."""
        self._whole[channel] = whole
        self._deltas[channel] = deltas

    def whole(self, channel: str, size: int) -> None:
        """A whole value of `size` bytes is written."""
        self._whole[channel] = size
        self._deltas[channel] = 0

    def outgrown(self, channel: str, size: int) -> bool:
        """Count a delta of `size` bytes; whether the deltas now outweigh the value they change."""
        total = self._deltas.get(channel, 0) + size
        self._deltas[channel] = total
        return total > max(self._whole.get(channel, 0), 4096)


def gather(writes: Iterable[Write]) -> dict[str, list[tuple[str, Any]]]:
    """Writes by channel, each channel's in their order."""
    grouped: dict[str, list[tuple[str, Any]]] = {}
    for path, channel, update in writes:
        if channel in grouped:
            grouped[channel].append((path, update))
        else:
            grouped[channel] = [(path, update)]
    return grouped


def merge_writes(
    channels: Mapping[str, Channel], values: Mapping[str, Any], grouped: Mapping[str, Sequence[tuple[str, Any]]]
) -> dict[str, Merge]:
    """What each written channel becomes. Changes nothing. Raises `InvalidUpdateError`."""
    merges = {}
    for name, writes in grouped.items():
        channel = channels[name]
        # Without a reducer nobody looks at the old value, and so it need not be decoded.
        old = MISSING if channel.reducer is None else values.get(name, MISSING)
        merges[name] = channel.merge(old, writes)
    return merges


class RowMaker:
    """Encodes what a commit holds. Encoding happens at once, so that a value changed later does not change the past."""

    def __init__(self, topology: Topology, codec: Codec, sizes: ChannelSizes) -> None:
        self._topology = topology
        self._codec = codec
        self._sizes = sizes

    def value(self, channel: str, seq: int, prev: int, value: Any, writer: str = "", kind: Kind = Kind.VALUE) -> Row:
        """A row with a whole value. Raises `UnencodableState` naming channel, writer and type."""
        encoding, payload = self._encode(channel, writer, value)
        self._sizes.whole(channel, len(payload))
        return Row(kind, seq, channel, seq, prev, writer, encoding, payload)

    def channel(self, name: str, seq: int, prev: int, merge: Merge) -> list[Row]:
        """The rows of one merged channel: its value or deltas."""
        rows = [self._change(name, seq, prev, change) for change in merge.changes]
        deltas = [len(row.payload) for row in rows if row.kind == Kind.DELTA]
        if deltas and not self._topology.channels[name].grows and self._sizes.outgrown(name, sum(deltas)):
            # Last: readers of the value start at the snapshot; the deltas before it only tell who wrote what.
            rows.append(self.value(name, seq, prev, merge.value, kind=Kind.SNAPSHOT))
        return rows

    def write(self, channel: str, seq: int, writer: str, update: Any) -> Row:
        """What a node returned for a channel, where the channel's own rows do not tell."""
        encoding, payload = self._encode(channel, writer, update)
        return Row(Kind.WRITE, seq, channel, seq, 0, writer, encoding, payload)

    def task(self, kind: Kind, seq: int, head: int, path: str, value: Any) -> Row:
        """A row about one task of the step after checkpoint `head`: its result, interrupts, answers or argument."""
        encoding, payload = self._encode(path, path, value)
        return Row(kind, seq, path, head, 0, path, encoding, payload)

    def control(self, seq: int, control: Control) -> Row:
        """The row of checkpoint `seq` itself."""
        return Row(Kind.CHECKPOINT, seq, "", seq, control.parent, "", Encoding.MSGPACK, encode_control(control))

    def _change(self, name: str, seq: int, prev: int, change: Change) -> Row:
        if change.kind != Kind.DELTA:
            return self.value(name, seq, prev, change.value, change.writer)
        try:
            encoding, payload = encode_delta(self._codec, change.value)
        except Unencodable as error:
            raise self._named(name, change.writer, error) from None
        return Row(Kind.DELTA, seq, name, seq, prev, change.writer, encoding, payload)

    def _encode(self, channel: str, writer: str, value: Any) -> tuple[int, bytes]:
        try:
            return self._codec.encode(value)
        except Unencodable as error:
            raise self._named(channel, writer, error) from None

    def _named(self, channel: str, writer: str, error: Unencodable) -> UnencodableState:
        return UnencodableState(channel, writer, error.type_name, error.hint)
