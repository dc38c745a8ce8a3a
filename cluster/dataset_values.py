"""The values of the channels that are asked for, each version decoded once, on the way through a thread's history."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..runtime.control import RUN_CHANNEL
from ..stores.base import CheckpointStore
from ..stores.chains import Key, base_of, by_version
from ..stores.codec import Codec
from ..stores.deltas import apply_stored
from ..stores.errors import Corrupt, DisallowedType
from ..stores.history import HistoryReader
from ..stores.segments import Kind, Row
from ..stores.strands import chain_of


@dataclass(frozen=True, slots=True)
class Value:
    """A channel's value from one checkpoint on."""

    version: int
    """Seq at which the channel got it."""
    value: Any
    size: int
    """Bytes of the value, about: of the rows that it was read from."""
    stored: int
    """Bytes of the rows of this version: of a delta, where it was stored as one."""


class ChannelValues:
    """One thread's channels. Values change from version to version by the deltas that pass by; where something was
    passed over (a filter, a fork within the thread), the value is read anew from the store."""

    def __init__(self, store: CheckpointStore, thread_id: str, codec: Codec, channels: Collection[str] | None) -> None:
        """`channels` None: all."""
        self._reader = HistoryReader(store, thread_id)
        self._thread_id = thread_id
        self._codec = codec
        self._channels = channels
        self._held: dict[str, Value] = {}
        self._passing: dict[Key, list[Row]] = {}

    def asked(self, channel: str) -> bool:
        """Whether anybody wants to know this channel."""
        return channel != RUN_CHANNEL and (self._channels is None or channel in self._channels)

    def pass_by(self, rows: Sequence[Row]) -> None:
        """Rows that the values of the checkpoints to come may be made of, in place of those before."""
        self._passing = by_version(row for row in rows if self.asked(row.channel))

    def at(self, seq: int, manifest: Mapping[str, int]) -> dict[str, Value]:
        """The channels at checkpoint `seq`, those that have a value.

        Raises `Corrupt`, `NewerFormat`; `UnknownCheckpoint`, `UnknownThread` where it was dropped meanwhile.
        """
        wanted = {channel: version for channel, version in manifest.items() if self.asked(channel)}
        elsewhere: dict[str, int] = {}
        for channel, version in wanted.items():
            held = self._held.get(channel)
            if held is not None and held.version == version:
                continue
            found = self._chain(channel, version, held)
            if found is None:
                elsewhere[channel] = version
            else:
                self._hold(channel, version, *found)
        if elsewhere:
            for channel, rows in self._reader.channels(elsewhere, at=seq).items():
                self._hold(channel, elsewhere[channel], rows, None)
        return {channel: self._held[channel] for channel in wanted}

    def _chain(self, channel: str, version: int, held: Value | None) -> tuple[list[Row], Value | None] | None:
        """The rows that make up a version, and the value that they change; None where not all passed by."""
        groups: list[list[Row]] = []
        while version:
            if groups and held is not None and held.version == version:
                return _flat(groups), held
            group = self._passing.get((channel, version))
            if group is None:
                return None
            groups.append(group)
            version = base_of(group)
        return _flat(groups), None

    def _hold(self, channel: str, version: int, rows: Sequence[Row], base: Value | None) -> None:
        try:
            value = self._decoded(rows, base)
        except (Corrupt, DisallowedType) as error:
            raise Corrupt(
                f"channel {channel!r} of thread {self._thread_id!r} at checkpoint {version}: {error}"
            ) from error
        size = sum(len(row.payload) for row in rows) + (base.size if base is not None else 0)
        stored = sum(len(row.payload) for row in rows if row.version == version)
        self._held[channel] = Value(version, value, size, stored)

    def _decoded(self, rows: Sequence[Row], base: Value | None) -> Any:
        value, deltas = None if base is None else base.value, rows
        if base is None and rows[0].kind != Kind.DELTA:
            value, deltas = self._codec.decode(rows[0].encoding, rows[0].payload), rows[1:]
        return apply_stored(self._codec, value, chain_of(deltas).portions())


def _flat(groups: Sequence[Sequence[Row]]) -> list[Row]:
    """Rows of versions that were gathered from the newest on, oldest first."""
    return [row for group in reversed(groups) for row in group]
